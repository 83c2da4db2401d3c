import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { type GitHost, startGitHost } from '../../../demo/git-host.ts'
import { type ModelServer, type ModelStep, startModelServer } from '../../../demo/model-server.ts'
import { builtProgram } from '../../../scripts/build.mjs'
import { AgentGate, type GatePlan, type Run } from '../../../sdk/typescript/src/index.ts'
import { openDatabase } from '../../src/storage/database.ts'
import { joinEmbeddedPostgres } from '../../src/storage/embedded-guest.ts'
import { verifyDatabase } from '../../src/storage/verify.ts'
import { call, finish, write } from '../harness/cases.ts'
import { gitIn, jailProcesses } from '../hostile/arena.ts'
import type { CrashPlan, ReadyLine } from './crash-entry.ts'

const ENTRY = 'server/test/crash/crash-entry.ts'

/** Nobody else on this machine waits for exactly so long. */
export const WAITS = { setup: '0.5113', command: '0.5117', gate: '0.5119' } as const

const FILES = { 'README.md': '# a project\n', 'src/one.txt': 'one\n', 'old.txt': 'old\n' }

/** A command reads what the step before has written: run twice in one tree it would show. */
const STORY: readonly ModelStep[] = [
  write('answer.txt', 'right\n'),
  call('run_command', { command: `rm old.txt; sleep ${WAITS.command}; cat answer.txt >> notes.txt` }),
  write('more.txt', 'more\n'),
  finish('Answered.'),
]

const PLAN: GatePlan = {
  setup: [`sleep ${WAITS.setup}`],
  gates: [
    {
      name: 'answered',
      level: 'L1',
      check: { type: 'command', run: `sleep ${WAITS.gate}; grep -q right answer.txt` },
    },
  ],
}

export interface Order {
  id: string
  name: string
}

/** What came of an order, as its receivers see it. */
export interface Result {
  run: Run
  /** The delivered tree. */
  tree: string
  modelCalls: number
  toolEffects: string
}

/** A gateway in a process of its own that is killed while it works, with neighbours that are not. */
export class OrderWorld implements AsyncDisposable {
  readonly host: GitHost
  readonly model: ModelServer
  readonly #dataDir: string
  readonly #pids: number[] = []
  #child: ChildProcess | null = null
  #gone: Promise<unknown> = Promise.resolve()
  #client: AgentGate | null = null
  #liveKey = ''
  #orders = 0

  private constructor(dataDir: string, host: GitHost, model: ModelServer) {
    this.#dataDir = dataDir
    this.host = host
    this.model = model
  }

  static async open(): Promise<OrderWorld> {
    const dataDir = await mkdtemp('/var/tmp/agentgate-orders-')
    await chmod(dataDir, 0o711)
    const script = (request: { assistantTurns: number }): ModelStep =>
      STORY[request.assistantTurns] ?? { text: 'Nothing is left to do.' }
    const world = new OrderWorld(dataDir, await startGitHost(), await startModelServer({ script }))
    await world.start()
    return world
  }

  get client(): AgentGate {
    if (this.#client === null) throw new Error('the gateway is not running')
    return this.#client
  }

  /** Starts the gateway, which dies by itself where the plan says so. */
  async start(plan: CrashPlan = {}): Promise<void> {
    const child = spawn(process.execPath, [await builtProgram(ENTRY), JSON.stringify(plan)], {
      env: {
        PATH: process.env['PATH'] ?? '',
        HOME: process.env['HOME'] ?? '/',
        LOG_LEVEL: process.env['AGENTGATE_TEST_LOG'] || 'fatal',
        PORT: '0',
        AGENTGATE_DATA_DIR: this.#dataDir,
        AGENTGATE_JAIL_SLOTS: '2',
        AGENTGATE_ALLOWED_PRIVATE_HOSTS: '127.0.0.0/8',
        AGENTGATE_OPENAI_BASE_URL: this.model.url,
        AGENTGATE_MODELS: 'openai/scripted',
        OPENAI_API_KEY: 'sk-scripted',
        AGENTGATE_RATE_READS: '1000000',
      },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#child = child
    this.#gone = once(child, 'exit')
    if (child.pid !== undefined) this.#pids.push(child.pid)
    for await (const line of createInterface({ input: child.stdout })) {
      const ready: ReadyLine = JSON.parse(line)
      this.#liveKey = ready.liveKey ?? this.#liveKey
      this.#client = new AgentGate({ apiKey: this.#liveKey, baseUrl: ready.url, maxRetries: 0 })
      return
    }
    throw new Error('the gateway ended before it was ready')
  }

  /** An order on a repository of its own, so that results can be compared. */
  async submit(): Promise<Order> {
    const name = `order-${++this.#orders}`
    const access = await this.host.createRepository({ owner: 'acme', name, files: FILES, private: true })
    await this.client.gitCredentials.create({
      host: new URL(access.url).host,
      kind: 'token',
      use: 'publish',
      secret: access.token,
      apiBaseUrl: access.apiBaseUrl,
    })
    const created = await this.client.workOrders.create({
      taskPrompt: `Answer. This is #${name}.`,
      workspaceSource: { type: 'git', repository: access.url },
      gatePlan: PLAN,
      maxIterations: 2,
    })
    return { id: created.runId, name }
  }

  /** Fulfils when the process has died by its own plan. */
  async died(): Promise<void> {
    const late = sleep(40_000, 'late', { ref: false })
    if ((await Promise.race([this.#gone, late])) === 'late') throw new Error('the gateway did not die')
  }

  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.#gone
  }

  async result({ id, name }: Order): Promise<Result> {
    const run = await this.client.runs.wait(id, { timeout: 50_000 })
    const { folder } = this.host.repository(`acme/${name}`)
    const branch = `refs/heads/agentgate/${id}`
    const tree = await gitIn(folder, ['rev-parse', '--verify', '--quiet', `${branch}^{tree}`]).catch(
      () => 'none',
    )
    const notes = await this.host.readFile('acme', name, `agentgate/${id}`, 'notes.txt')
    const said = this.model.requests.filter(({ body }) => JSON.stringify(body).includes(`#${name}.`))
    return { run, tree: tree.trim(), modelCalls: said.length, toolEffects: notes ?? 'none' }
  }

  /** One pull request, one charge, the same tree: as if nobody had been killed. */
  async expectOnce(order: Order, undisturbed: Result): Promise<void> {
    const result = await this.result(order)
    const { run } = result
    expect(run.error).toBeNull()
    expect(run).toMatchObject({ state: 'completed', verification: 'passed', iterations: 1 })
    expect(result.tree).toBe(undisturbed.tree)
    expect(result.toolEffects).toBe('right\n')
    expect(result.modelCalls - undisturbed.modelCalls).toBeLessThanOrEqual(run.attempt - 1)
    const pulls = this.host.pulls('acme', order.name)
    expect(pulls.map(({ url }) => url)).toEqual([run.prUrl])
    await using database = await openDatabase(await joinEmbeddedPostgres(join(this.#dataDir, 'postgresql')), {
      maxReaders: 1,
      statementTimeoutMs: 30_000,
    })
    const charges = await database.query("select micro from ledger where run_id = $1 and kind = 'deduct'", [
      order.id,
    ])
    expect(charges).toHaveLength(1)
    const events = await database.query<{ events: string }>(
      'select events from run_event where run_id = $1 order by first_seq',
      [order.id],
    )
    const types = events.flatMap(({ events }) =>
      events.split('\n').map((line): string => JSON.parse(line).type),
    )
    for (const once of ['workspace.ready', 'verification.passed', 'delivery.pushed', 'delivery.pull_request'])
      expect(types.filter((type) => type === once)).toEqual([once])
    const findings: unknown[] = []
    for await (const finding of verifyDatabase(database)) findings.push(finding)
    expect(findings).toEqual([])
    expect((await this.client.credits.get()).reservedCreditsCents).toBe(0)
    for (const pid of this.#pids) expect(jailProcesses(String(pid))).toEqual([])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const child = this.#child
    if (child !== null && child.exitCode === null && child.signalCode === null) {
      child.stdin?.end()
      const forced = setTimeout(() => child.kill('SIGKILL'), 20_000)
      await this.#gone
      clearTimeout(forced)
    }
    await Promise.all([this.host.close(), this.model.close()])
    await rm(this.#dataDir, { recursive: true, force: true })
  }
}
