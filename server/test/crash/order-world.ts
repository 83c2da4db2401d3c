import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { type GitHost, type HostFault, startGitHost } from '../../../demo/git-host.ts'
import { type ModelServer, type ModelStep, startModelServer } from '../../../demo/model-server.ts'
import { builtProgram } from '../../../scripts/build.mjs'
import { AgentGate, type GatePlan, type Run } from '../../../sdk/typescript/src/index.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { joinEmbeddedPostgres } from '../../src/storage/embedded-guest.ts'
import { findingsOf } from '../core/engine-room.ts'
import { call, finish, write } from '../harness/cases.ts'
import { gitIn, jailProcesses, WORLD_UID } from '../hostile/arena.ts'
import type { CrashPlan, HeldLine, Instruction, ReadyLine } from './crash-entry.ts'

const ENTRY = 'server/test/crash/crash-entry.ts'

/** How many seconds each part of an order takes, as `sleep` is told. */
export interface Waits {
  setup: string
  command: string
  gate: string
}

const NO_WAITS: Waits = { setup: '0', command: '0', gate: '0' }

const FILES = { 'README.md': '# a project\n', 'src/one.txt': 'one\n', 'old.txt': 'old\n' }

/** A command reads what the step before has written: run twice in one tree it would show. */
const storyOf = (waits: Waits): readonly ModelStep[] => [
  write('answer.txt', 'right\n'),
  call('run_command', { command: `rm old.txt; sleep ${waits.command}; cat answer.txt >> notes.txt` }),
  write('more.txt', 'more\n'),
  finish('Answered.'),
]

const planOf = (waits: Waits): GatePlan => ({
  setup: [`sleep ${waits.setup}`],
  gates: [
    {
      name: 'answered',
      level: 'L1',
      check: { type: 'command', run: `sleep ${waits.gate}; grep -q right answer.txt` },
    },
  ],
})

export interface Order {
  id: string
  name: string
  /** Where its repository is, which is the only one there. */
  host: GitHost
}

/** What came of an order, as its receivers see it. */
interface Result {
  run: Run
  /** The delivered tree. */
  tree: string
  modelCalls: number
  toolEffects: string
}

/** A gateway in a process of its own that is killed while it works, with neighbours that are not. */
export class OrderWorld implements AsyncDisposable {
  readonly #hosts: GitHost[] = []
  readonly #model: ModelServer
  readonly #dataDir: string
  readonly #pids: number[] = []
  #child: ChildProcess | null = null
  #gone: Promise<unknown> = Promise.resolve()
  #client: AgentGate | null = null
  #liveKey = ''
  #orders = 0
  /** What comes of an order that nothing happens to. */
  #undisturbed: Pick<Result, 'tree' | 'modelCalls'> = { tree: 'none', modelCalls: 0 }
  /** Runs that stand at the point at which they were to be held, in this life of the gateway. */
  #held = new Set<string>()
  readonly #plan: GatePlan

  private constructor(dataDir: string, model: ModelServer, plan: GatePlan) {
    this.#dataDir = dataDir
    this.#model = model
    this.#plan = plan
  }

  static async open(waits: Waits = NO_WAITS): Promise<OrderWorld> {
    const dataDir = await mkdtemp('/var/tmp/agentgate-orders-')
    await chmod(dataDir, 0o711)
    const story = storyOf(waits)
    const script = (request: { assistantTurns: number }): ModelStep =>
      story[request.assistantTurns] ?? { text: 'Nothing is left to do.' }
    const world = new OrderWorld(dataDir, await startModelServer({ script }), planOf(waits))
    try {
      await world.start()
      const undisturbed = await world.result(await world.submit())
      expect(undisturbed.run).toMatchObject({ state: 'completed', iterations: 1, attempt: 1 })
      world.#undisturbed = undisturbed
      return world
    } catch (error) {
      await world[Symbol.asyncDispose]()
      throw error
    }
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
        AGENTGATE_JAIL_SLOTS: '8',
        AGENTGATE_JAIL_UID: String(WORLD_UID),
        AGENTGATE_ALLOWED_PRIVATE_HOSTS: '127.0.0.0/8',
        AGENTGATE_OPENAI_BASE_URL: this.#model.url,
        AGENTGATE_MODELS: 'openai/scripted',
        OPENAI_API_KEY: 'sk-scripted',
        AGENTGATE_RATE_READS: '1000000',
      },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#child = child
    this.#gone = once(child, 'exit')
    if (child.pid !== undefined) this.#pids.push(child.pid)
    this.#held = new Set()
    const isReady = new Promise<void>((resolve, reject) => {
      createInterface({ input: child.stdout })
        .on('line', (line) => this.#hear(JSON.parse(line), resolve))
        .once('close', () => reject(new Error('the gateway ended before it was ready')))
    })
    await isReady
  }

  #hear(said: ReadyLine | HeldLine, ready: () => void): void {
    if ('held' in said) {
      this.#held.add(said.held)
      return
    }
    this.#liveKey = said.liveKey ?? this.#liveKey
    this.#client = new AgentGate({ apiKey: this.#liveKey, baseUrl: said.url, maxRetries: 0 })
    ready()
  }

  /** Tells the gateway where to die, or where to hold a run. */
  tell(instruction: Instruction): void {
    this.#child?.stdin?.write(`${JSON.stringify(instruction)}\n`)
  }

  /** Fulfils when each of these orders is held where it was to be. */
  async areHeld(orders: readonly Order[]): Promise<void> {
    const free = (): string[] => orders.flatMap(({ id, name }) => (this.#held.has(id) ? [] : [name]))
    await expect.poll(free, { interval: 10, timeout: 60_000 }).toEqual([])
  }

  /** An order on a repository of its own, so that results can be compared. */
  async submit(fault?: HostFault): Promise<Order> {
    const name = `order-${++this.#orders}`
    const host = await startGitHost()
    this.#hosts.push(host)
    if (fault !== undefined) host.fail(fault)
    const access = await host.createRepository({ owner: 'acme', name, files: FILES, private: true })
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
      gatePlan: this.#plan,
      maxIterations: 2,
    })
    return { id: created.runId, name, host }
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

  async result({ id, name, host }: Order): Promise<Result> {
    const run = await this.client.runs.wait(id, { timeout: 50_000 })
    const { folder } = host.repository(`acme/${name}`)
    const branch = `refs/heads/agentgate/${id}`
    const tree = await gitIn(folder, ['rev-parse', '--verify', '--quiet', `${branch}^{tree}`]).catch(
      () => 'none',
    )
    const notes = await host.readFile('acme', name, `agentgate/${id}`, 'notes.txt')
    const said = this.#model.requests.filter(({ body }) => JSON.stringify(body).includes(`#${name}.`))
    return { run, tree: tree.trim(), modelCalls: said.length, toolEffects: notes ?? 'none' }
  }

  /** One pull request, one charge, the same tree for each of them: as if nobody had been killed. */
  async expectOnce(orders: readonly Order[]): Promise<void> {
    const results = await Promise.all(orders.map(async (order) => [order, await this.result(order)] as const))
    await using database = await openDatabase(await joinEmbeddedPostgres(join(this.#dataDir, 'postgresql')), {
      maxReaders: 1,
      statementTimeoutMs: 30_000,
    })
    for (const [order, result] of results) {
      const { run } = result
      expect(run.error).toBeNull()
      expect(run).toMatchObject({ state: 'completed', verification: 'passed', iterations: 1 })
      expect(result.tree).toBe(this.#undisturbed.tree)
      expect(result.toolEffects).toBe('right\n')
      expect(result.modelCalls - this.#undisturbed.modelCalls).toBeLessThanOrEqual(run.attempt - 1)
      const pulls = order.host.pulls('acme', order.name)
      expect(pulls.map(({ url }) => url)).toEqual([run.prUrl])
      await expectToldOnce(database, order)
    }
    expect(await findingsOf(database)).toEqual([])
    expect((await this.client.credits.get()).reservedCreditsCents).toBe(0)
    expect(jailProcesses({ pids: this.#pids, firstUid: WORLD_UID })).toEqual([])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const child = this.#child
    if (child !== null && child.exitCode === null && child.signalCode === null) {
      child.stdin?.end()
      const forced = setTimeout(() => child.kill('SIGKILL'), 20_000)
      await this.#gone
      clearTimeout(forced)
    }
    await Promise.all([...this.#hosts, this.#model].map((neighbour) => neighbour.close()))
    await rm(this.#dataDir, { recursive: true, force: true })
  }
}

/** The order was charged once, and each of its parts is told once. */
async function expectToldOnce(database: Database, { id }: Order): Promise<void> {
  const charges = await database.query("select micro from ledger where run_id = $1 and kind = 'deduct'", [id])
  expect(charges).toHaveLength(1)
  const packs = await database.query<{ events: string }>(
    'select events from run_event where run_id = $1 order by first_seq',
    [id],
  )
  const types = packs.flatMap(({ events }) => events.split('\n').map((line): string => JSON.parse(line).type))
  for (const once of ['workspace.ready', 'verification.passed', 'delivery.pushed', 'delivery.pull_request'])
    expect(types.filter((type) => type === once)).toEqual([once])
}
