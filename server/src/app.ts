/** The only wiring: builds the rooms in order and closes them last to first. Tests use the same function. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { AGENTS } from './agents/coder.ts'
import type { Config } from './config.ts'
import { CredentialDesk } from './credential-desk.ts'
import { DEFAULT_CONSTRAINTS, type RunId } from './domain/facts.ts'
import type { Scope } from './domain/fairness.ts'
import type { Effects } from './effects.ts'
import { NO_CAP } from './engine/decisions.ts'
import { Engine, type Refused } from './engine/engine.ts'
import type { Committed } from './engine/mailbox.ts'
import { type FirstSecrets, found } from './founding.ts'
import { Housekeeping } from './housekeeping.ts'
import { createHttpServer } from './http/server.ts'
import { Hub } from './hub/hub.ts'
import { isStale, startTicks } from './jail/process-mark.ts'
import type { Clock } from './lib/clock.ts'
import { newId } from './lib/id.ts'
import { Loop } from './lib/loop.ts'
import { Metrics } from './lib/metrics.ts'
import { makeOwnFolder } from './lib/own-folder.ts'
import { Meters } from './meters.ts'
import { asStandardFetch } from './outbound/fetch-adapter.ts'
import { createGuardedFetch, type GuardedFetch } from './outbound/guarded-fetch.ts'
import { Rooms } from './rooms.ts'
import { type Database, openDatabase } from './storage/database.ts'
import { databaseClock } from './storage/database-clock.ts'
import { Disk } from './storage/disk.ts'
import { durabilityWarnings } from './storage/durability.ts'
import { startEmbeddedPostgres } from './storage/embedded-postgres.ts'
import { findEventLine } from './storage/event-lines.ts'
import type { Installation } from './storage/installation.ts'
import { MIGRATIONS, migrate } from './storage/migrate.ts'
import { openAsGuest, openAtUrl } from './storage/open-patiently.ts'
import { findHeldRun } from './storage/runs.ts'
import { Wake } from './storage/wake.ts'
import { deleteWorker, listWorkers, type WorkerRow } from './storage/workers.ts'
import { loadMasterKey } from './vault/master-key.ts'
import { createVault, type Vault } from './vault/vault.ts'
import { VERSION } from './version.ts'
import { createRelay, type Relay } from './webhooks/relay.ts'
import { NO_WORKSHOP, openWorkshop, openYard, type Workshop, type Yard } from './workshop.ts'

export type { Effects } from './effects.ts'

export interface App extends AsyncDisposable {
  /** Where it listens; empty for a worker that was given no port. */
  url: string
  engine: Engine
  database: Database
  relay: Relay
  clock: Clock
  housekeeping: Housekeeping
  jail: string
  /** Given out by the first start on a database, and never again. */
  firstSecrets: FirstSecrets | null
}

export async function startApp(config: Config, effects: Effects): Promise<App> {
  const rooms = new Rooms()
  try {
    await makeOwnFolder(config.dataDir)
    const yard = startYard(config, effects, rooms)
    const ground = await openGround(config, effects, rooms)
    const address = { url: '' }
    const publicUrl = (): string =>
      config.publicUrl ?? (address.url || `http://${config.host}:${config.port}`)
    const workshop = await openWork(config, { ...ground, publicUrl, yard: await yard })
    const core = await openCore(config, ground, workshop)
    const http = createGateway(config, ground, core)
    if (config.listens) Object.assign(address, await http.listen({ host: config.host, port: config.port }))
    rooms.defer(() => http.close())
    rooms.defer(async () => http.ready(false))
    await workshop.sweep()
    core.engine.start()
    core.housekeeping.start(config.role === 'api' ? 'own' : 'all')
    if (config.role !== 'api') core.relay.start()
    http.ready(true)
    return {
      url: address.url,
      engine: core.engine,
      database: ground.database,
      relay: core.relay,
      clock: ground.clock,
      housekeeping: core.housekeeping,
      jail: workshop.jail,
      firstSecrets: ground.secrets,
      [Symbol.asyncDispose]: () => rooms.close(),
    }
  } catch (error) {
    await rooms.close()
    throw error
  }
}

/** What everything else stands on. */
interface Ground {
  effects: Effects
  rooms: Rooms
  database: Database
  isEmbedded: boolean
  clock: Clock
  vault: Vault
  installation: Installation
  secrets: FirstSecrets | null
  fetch: GuardedFetch
  desk: CredentialDesk
  disk: Disk
  metrics: Metrics
  meters: Meters
}

async function openGround(config: Config, effects: Effects, rooms: Rooms): Promise<Ground> {
  const { database, isEmbedded } = await openStorage(config, effects, rooms)
  await migrate(database, MIGRATIONS)
  for (const warning of await durabilityWarnings(database)) effects.log.warn({}, warning)
  const clock = effects.clock ?? (await openClock(database, effects, rooms))
  const masterKey = config.masterKey ?? (await loadMasterKey(config.dataDir))
  const vault = createVault({ masterKey })
  const at = new Date(clock.now())
  const { installation, secrets } = await found(database, { vault, at, credits: config.initialCredits })
  if (secrets !== null) effects.onFirstSecrets?.(secrets)
  const fetch = createGuardedFetch({
    allowedPrivateRanges: config.allowedPrivateHosts,
    connectTimeoutMs: 10_000,
  })
  rooms.defer(() => fetch.close())
  const forgeFetch = asStandardFetch(fetch.fetch, { timeoutMs: 30_000, maxAnswerBytes: 8 * 2 ** 20 })
  const desk = new CredentialDesk({ database, vault, config, clock, forgeFetch })
  const { statfs } = effects
  const disk = new Disk({ folder: config.dataDir, minBytes: config.minDiskBytes, ...(statfs && { statfs }) })
  const metrics = new Metrics()
  const meters = rooms.use(new Meters(metrics, disk))
  const made = { effects, rooms, database, isEmbedded, clock, vault, installation, secrets }
  return { ...made, fetch, desk, disk, metrics, meters }
}

/** Follows the database's time for as long as the process lives. */
async function openClock(database: Database, { log }: Effects, rooms: Rooms): Promise<Clock> {
  const clock = await databaseClock(database)
  const onError = (err: unknown): void => log.warn({ err }, 'The time of the database could not be asked.')
  rooms.use(new Loop(clock, { everyMs: 60_000, clock, onError }).start())
  return clock
}

/** Trying the jail out waits for other processes, and so does opening the database: at the same time, then. */
function startYard(config: Config, { log }: Effects, rooms: Rooms): Promise<Yard | null> {
  if (config.role === 'api') return Promise.resolve(null)
  const yard = openYard(config, log)
  // Whoever awaits it hears of a failure; nobody does where the database fails, too.
  const opened = yard.catch(() => null)
  rooms.defer(async () => (await opened)?.jails[Symbol.asyncDispose]())
  return yard
}

type Site = Ground & { publicUrl: () => string; yard: Yard | null }

async function openWork(config: Config, { yard, ...site }: Site): Promise<Workshop> {
  if (yard === null) return NO_WORKSHOP
  return openWorkshop({
    ...site,
    yard,
    config,
    onMasked: (kind, count) => site.meters.masked(kind, count),
  })
}

/** What moves runs, and what follows from it. */
interface Core {
  engine: Engine
  hub: Hub
  relay: Relay
  housekeeping: Housekeeping
}

async function openCore(config: Config, ground: Ground, { performer }: Workshop): Promise<Core> {
  const { effects, rooms, database, isEmbedded, clock, disk, metrics, meters } = ground
  const { log } = effects
  const hub = new Hub({
    clock,
    readRun: async (id) => engine.peek(id) ?? (await findHeldRun(database, id))?.run,
  })
  metrics.observed('agentgate_hub_waiters', 'Runs that a caller waits for here.', () => hub.waiting)
  const { retentionMs } = config
  const housekeeping = rooms.use(new Housekeeping({ database, clock, disk, meters, retentionMs, log }))
  await housekeeping.prepare()
  const relay = rooms.use(openRelay(ground))
  const worker = workerRow(clock.now())
  if (isEmbedded) await buryWorkers(database)
  // What an engine does while it hands its runs back is still told to the others.
  let wake: Wake | null = null
  rooms.defer(async () => wake?.[Symbol.asyncDispose]())
  const engine = rooms.use(
    await Engine.open({
      ...engineOptions(config, ground),
      worker,
      performer,
      onCommitted: (committed) => {
        const { run } = committed
        hub.announce(run)
        meters.committed(committed)
        wake?.notify(run.facts.id, run.state === 'queued')
        if (owesDeliveries(committed)) relay.wake()
      },
    }),
  )
  wake = await Wake.open({
    database,
    clock,
    workerId: worker.id,
    log,
    onHint: (hint) => {
      engine.wake(hint)
      hub.hint(hint.runs)
      relay.wake()
    },
  })
  const onError = (err: unknown): void => log.error({ err }, 'The other processes could not be counted.')
  rooms.use(new Loop(wake, { everyMs: config.leaseMs / 3, clock, onError }).start())
  return { engine, hub, relay, housekeeping }
}

function engineOptions(config: Config, ground: Ground) {
  const { effects, database, isEmbedded, clock, installation, meters } = ground
  const { log, pause, onDraft } = effects
  const caps = capsOf(config)
  return {
    database,
    clock,
    epoch: installation.epoch,
    slots: config.role === 'api' ? 0 : config.slots,
    capOf: ({ kind }: Scope) => caps[kind],
    maxQueued: config.maxQueuedRuns,
    leaseMs: config.leaseMs,
    renewMs: config.leaseMs / 3,
    fenceMs: (config.leaseMs * 2) / 3,
    graceUntil: isEmbedded ? 0 : clock.now() + config.leaseMs,
    log,
    onDraft: (id: RunId, text: string) => onDraft?.(id, text),
    onBatch: (rows: number, ms: number) => meters.batch(rows, ms),
    onRefused: (why: Refused) => meters.refused(why),
    onFenced: () => meters.leaseLost(),
    pause,
  }
}

const owesDeliveries = ({ run, lines }: Committed): boolean =>
  run.facts.webhookUrl !== null && lines.some(({ type }) => type.startsWith('run.'))

function openRelay({ effects, database, clock, fetch, desk, meters }: Ground): Relay {
  const { random, log, pause } = effects
  return createRelay({
    db: database,
    clock,
    fetch: fetch.fetch,
    random,
    log,
    concurrencyPerUrl: 8,
    pause,
    eventLine: (runId, seq) => findEventLine(database, runId, seq),
    secretFor: (organizationId, tenantId, mode) => desk.signingSecret(organizationId, tenantId, mode),
    cleanFor: async (owner) => {
      const onMasked = meters.masked.bind(meters)
      return (await desk.receiverRedactor(owner, { onMasked })).clean
    },
    onAttempt: (outcome) => meters.attempted(outcome),
  })
}

function createGateway(config: Config, ground: Ground, { engine, hub }: Core) {
  const { effects, database, clock, vault, desk, disk, metrics } = ground
  return createHttpServer({
    db: database,
    clock,
    engine: {
      createRun: async (facts, request) => {
        disk.refuseWhenLow()
        return engine.createRun(facts, request)
      },
      cancelRun: (id, by) => engine.cancelRun(id, by),
      waitForRun: (id, options) => hub.waitForRun(id, options),
    },
    vault,
    knowsForge: (owner, repository) => desk.knowsForge(owner, repository),
    agents: agentsOf(config),
    prices: config.prices,
    allowances: config.rates,
    metrics,
    log: effects.log,
    version: VERSION,
    offers: config.role === 'worker' ? 'operations' : 'everything',
  })
}

const capsOf = (config: Config): Record<Scope['kind'], number> => ({
  organization: config.maxConcurrentRuns,
  tenant: config.maxConcurrentRunsPerTenant ?? NO_CAP,
  agent: config.maxConcurrentRunsPerAgent ?? NO_CAP,
})

async function openStorage(
  config: Config,
  { log, lifetime, isStopping = () => false }: Effects,
  rooms: Rooms,
): Promise<{ database: Database; isEmbedded: boolean }> {
  const onWait = (why: unknown): void =>
    log.warn({ err: why }, 'The database is not there yet; the start waits for it.')
  const options = { maxReaders: 8, statementTimeoutMs: 30_000, onWait, isStopping }
  if (config.databaseUrl !== null) {
    return {
      database: rooms.use(await openAtUrl(config.databaseUrl.reveal(), options)),
      isEmbedded: false,
    }
  }
  const dataDir = join(config.dataDir, 'postgresql')
  if (config.role === 'worker') {
    return { database: rooms.use(await openAsGuest(dataDir, options)), isEmbedded: true }
  }
  const embedded = rooms.use(
    await startEmbeddedPostgres({
      dataDir,
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
