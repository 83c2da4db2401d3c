/** The only wiring: builds the rooms in order and closes them last to first. Tests use the same function. */
import { readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { AGENTS } from './agents/coder.ts'
import { loopDriver } from './agents/loop.ts'
import { modelClient } from './agents/model-client.ts'
import { scriptedDriver } from './agents/scripted.ts'
import { Conductor } from './conduct/conductor.ts'
import type { Config } from './config.ts'
import { CredentialDesk } from './credential-desk.ts'
import { DEFAULT_CONSTRAINTS } from './domain/facts.ts'
import type { Scope } from './domain/fairness.ts'
import { NO_CAP } from './engine/decisions.ts'
import { Engine } from './engine/engine.ts'
import { type FirstSecrets, found } from './founding.ts'
import { createHttpServer, type HttpServer } from './http/server.ts'
import { Hub } from './hub/hub.ts'
import { cleanJails, type JailSlot, jailRoot, openJails } from './jail/jail.ts'
import { isStale, startTicks } from './jail/process-mark.ts'
import type { Backoff } from './lib/backoff.ts'
import type { Clock } from './lib/clock.ts'
import { newId } from './lib/id.ts'
import { Metrics } from './lib/metrics.ts'
import { asStandardFetch } from './outbound/fetch-adapter.ts'
import { createGuardedFetch } from './outbound/guarded-fetch.ts'
import { type Database, openDatabase } from './storage/database.ts'
import { databaseClock } from './storage/database-clock.ts'
import { startEmbeddedPostgres } from './storage/embedded-postgres.ts'
import { findEventLine } from './storage/event-lines.ts'
import { MIGRATIONS, migrate } from './storage/migrate.ts'
import { findHeldRun } from './storage/runs.ts'
import { deleteWorker, listWorkers, type WorkerRow } from './storage/workers.ts'
import { loadMasterKey } from './vault/master-key.ts'
import { createVault } from './vault/vault.ts'
import { VERSION } from './version.ts'
import { createRelay } from './webhooks/relay.ts'
import { Workspaces } from './workspaces/workspaces.ts'

/** What a test may replace. */
export interface Effects {
  log: Logger
  /** A race point of crash tests. */
  pause: (name: string) => Promise<void>
  /** In [0, 1). */
  random: () => number
  /** Test servers end with their parent, so that a killed test leaves nothing behind. */
  lifetime: 'adoptable' | 'with-parent'
  /** Time other than the database's. */
  clock?: Clock
  /** Waits between two tries of a model call. */
  modelRetry?: Backoff
  /** Called when they have been made, so that a start that fails later does not lose them. */
  onFirstSecrets?: (secrets: FirstSecrets) => void
  /** Called for every line of draft text. */
  onDraft?: (runId: string, text: string) => void
}

export interface App extends AsyncDisposable {
  url: string
  engine: Engine
  database: Database
  relay: ReturnType<typeof createRelay>
  clock: Clock
  jail: string
  /** Given out by the first start on a database, and never again. */
  firstSecrets: FirstSecrets | null
}

export async function startApp(config: Config, effects: Effects): Promise<App> {
  const { log, random, pause } = effects
  const rooms = new Rooms()
  try {
    await mkdir(config.dataDir, { recursive: true, mode: 0o700 })
    const { database, isEmbedded } = await openStorage(config, effects, rooms)
    await migrate(database, MIGRATIONS)
    const clock = effects.clock ?? (await databaseClock(database))
    const masterKey = config.masterKey ?? (await loadMasterKey(config.dataDir))
    const vault = createVault({ masterKey })
    const at = new Date(clock.now())
    const { installation, secrets } = await found(database, { vault, at, credits: config.initialCredits })
    if (secrets !== null) effects.onFirstSecrets?.(secrets)

    const root = jailRoot(config.dataDir)
    cleanJails(root)
    const jails = rooms.use(await openJails({ log, slots: config.jailSlots, preferred: config.jail, root }))
    const fetch = createGuardedFetch({
      allowedPrivateRanges: config.allowedPrivateHosts,
      connectTimeoutMs: 10_000,
    })
    rooms.defer(() => fetch.close())
    const metrics = new Metrics()
    const forgeFetch = asStandardFetch(fetch.fetch, { timeoutMs: 30_000, maxAnswerBytes: 8 * 2 ** 20 })
    const desk = new CredentialDesk({ database, vault, config, clock, forgeFetch })
    const slots = new Map<string, JailSlot>()
    const workspaces = new Workspaces({
      root: join(root, 'git'),
      gitBinary: 'git',
      allowedPrivateHosts: config.allowedPrivateHosts,
      diskLimitBytes: config.diskLimitBytes,
      findCredential: (request) => desk.gitCredential(request),
      own: async (path, runId) => slots.get(runId)?.own(path),
    })

    const client = modelClient({
      providers: config.providers,
      maxOutputTokens: config.maxOutputTokens,
      stepTimeoutMs: 600_000,
      silenceTimeoutMs: 120_000,
      clock,
    })
    const scratch = join(root, 'scratch')
    await mkdir(scratch, { recursive: true, mode: 0o711 })
    const publicUrl = (): string => config.publicUrl ?? address.url
    const conductor = new Conductor({
      db: database,
      clock,
      jails,
      workspaces,
      setup: { hosts: config.setupHosts, checkHost: fetch.checkHost, registries: {}, log },
      scratch,
      forgeOf: (organization, repository) => desk.forge(organization, repository),
      runUrl: (runId) => `${publicUrl()}/v1/runs/${runId}`,
      cleanerOf: (run) => desk.cleanerOf(run),
      slots,
      drivers: {
        loop: loopDriver({
          client,
          clock,
          random,
          log,
          contextTokens: 120_000,
          ...(effects.modelRetry && { retry: effects.modelRetry }),
        }),
        scripted: scriptedDriver(clock),
      },
      log,
    })
    const hub = new Hub({
      clock,
      readRun: async (id) => engine.peek(id) ?? (await findHeldRun(database, id))?.run,
    })
    const batches = metrics.histogram(
      'agentgate_commit_batch_size',
      'Decisions per commit.',
      [1, 2, 4, 8, 16, 32, 64],
    )
    const commits = metrics.histogram(
      'agentgate_commit_seconds',
      'Time of a commit.',
      [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1],
    )
    const worker = workerRow(clock.now())
    if (isEmbedded) await buryWorkers(database)
    const engine = await Engine.open({
      database,
      clock,
      epoch: installation.epoch,
      worker,
      performer: conductor,
      slots: config.slots,
      capOf: ({ kind }) => capsOf(config)[kind],
      maxQueued: config.maxQueuedRuns,
      leaseMs: config.leaseMs,
      renewMs: config.leaseMs / 3,
      fenceMs: (config.leaseMs * 2) / 3,
      graceUntil: isEmbedded ? 0 : clock.now() + config.leaseMs,
      log,
      onCommitted: ({ run, lines }) => {
        hub.announce(run)
        if (run.facts.webhookUrl !== null && lines.some(({ type }) => type.startsWith('run.'))) relay.wake()
      },
      onDraft: (id, text) => effects.onDraft?.(id, text),
      onBatch: (rows, ms) => {
        batches.observe(rows)
        commits.observe(ms / 1000)
      },
      pause,
    })
    rooms.use(engine)
    const relay = rooms.use(
      createRelay({
        db: database,
        clock,
        fetch: fetch.fetch,
        random,
        log,
        concurrencyPerUrl: 8,
        pause,
        eventLine: (runId, seq) => findEventLine(database, runId, seq),
        secretFor: (organizationId, tenantId, mode) => desk.signingSecret(organizationId, tenantId, mode),
      }),
    )
    const http: HttpServer = createHttpServer({
      db: database,
      clock,
      engine: {
        createRun: (facts, request) => engine.createRun(facts, request),
        cancelRun: (id, by) => engine.cancelRun(id, by),
        waitForRun: (id, options) => hub.waitForRun(id, options),
      },
      vault,
      agents: agentsOf(config),
      prices: config.prices,
      allowances: config.rates,
      metrics,
      log,
      version: VERSION,
    })
    const address = await http.listen({ host: config.host, port: config.port })
    rooms.defer(() => http.close())
    rooms.defer(async () => http.ready(false))
    engine.start()
    relay.start()
    http.ready(true)
    const close = (): Promise<void> => rooms.close()
    const jail = jails.report.jail
    return {
      url: address.url,
      engine,
      database,
      relay,
      clock,
      jail,
      firstSecrets: secrets,
      [Symbol.asyncDispose]: close,
    }
  } catch (error) {
    await rooms.close()
    throw error
  }
}

const capsOf = (config: Config): Record<Scope['kind'], number> => ({
  organization: config.maxConcurrentRuns,
  tenant: config.maxConcurrentRunsPerTenant ?? NO_CAP,
  agent: config.maxConcurrentRunsPerAgent ?? NO_CAP,
})

/** Rooms in the order they were opened; Node 20 has no `AsyncDisposableStack`. */
class Rooms {
  readonly #closers: (() => Promise<void>)[] = []
  use<R extends AsyncDisposable>(room: R): R {
    this.#closers.push(async () => room[Symbol.asyncDispose]())
    return room
  }
  defer(close: () => Promise<void>): void {
    this.#closers.push(close)
  }
  /** Closes what is open, last to first, all of it even when one fails; then reports the first failure. */
  async close(): Promise<void> {
    const failures: unknown[] = []
    for (const close of this.#closers.splice(0).reverse()) {
      await close().catch((error: unknown) => failures.push(error))
    }
    if (failures.length > 0) throw failures[0]
  }
}

async function openStorage(
  config: Config,
  { log, lifetime }: Effects,
  rooms: Rooms,
): Promise<{ database: Database; isEmbedded: boolean }> {
  const options = { maxReaders: 8, statementTimeoutMs: 30_000 }
  if (config.databaseUrl !== null) {
    return {
      database: rooms.use(await openDatabase(config.databaseUrl.reveal(), options)),
      isEmbedded: false,
    }
  }
  const embedded = rooms.use(
    await startEmbeddedPostgres({
      dataDir: join(config.dataDir, 'postgresql'),
      log: (line, facts) => log.info(facts ?? {}, line),
      lifetime,
    }),
  )
  return { database: rooms.use(await openDatabase(embedded.connection, options)), isEmbedded: true }
}

function workerRow(now: number): WorkerRow {
  return {
    id: newId('wrk', now),
    bootId: bootId(),
    pid: process.pid,
    pidStarted: String(startTicks(process.pid) ?? 0),
  }
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return 'unknown'
  }
}

/** On an embedded database every worker ran on this machine: one that is proved dead gives its runs up at once. */
async function buryWorkers(database: Database): Promise<void> {
  for (const worker of await listWorkers(database)) {
    const isDead = worker.bootId !== bootId() || isStale(`${worker.pid}-${worker.pidStarted}`)
    if (isDead) await deleteWorker(database, worker.id)
  }
}

function agentsOf(config: Config) {
  return Object.fromEntries(
    [...AGENTS.values()].map((agent) => [
      agent.slug,
      {
        id: `agt_${agent.slug}`,
        slug: agent.slug,
        version: VERSION,
        kind: agent.kind,
        defaultConstraints: { ...DEFAULT_CONSTRAINTS, ...agent.defaultConstraints },
        estimateCredits: agent.estimateCredits,
        models: agent.kind === 'loop' ? config.models : [],
        toolNames: agent.toolNames,
        needsWorkspace: agent.slug === 'coder',
      },
    ]),
  )
}
