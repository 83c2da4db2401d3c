/**
 * What the gateway adds to an agent's work: work orders on a small npm project of a git host on loopback, one after
 * the other, with a mirror that is warm. In live mode a scripted model speaks the wire protocol of OpenAI without
 * delay (list files, write a file, finish) and the change becomes a pull request; in test mode the built-in script
 * does about the same, and the branch stays in the server. The project's own test is the gate.
 *
 * The overhead is the time from the create of the run to the pull request's event, less the agent's own time (from
 * asking the model to its answer, and what its tools took) and less the gates' and the set-up's own (as they
 * report). workspace is the time from the claim to the workspace's being ready: asking the host, fetching, cloning.
 *
 * jail: `/bin/true` in a jail of its own, one after the other, beside the same program spawned bare. Memory: eight
 * orders at once whose agents run a command that sleeps; the proportional set sizes of the gateway and all below
 * it, its PostgreSQL too, less the same before, by eight.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { startGitHost } from '../demo/git-host.ts'
import { type ModelScript, startModelServer } from '../demo/model-server.ts'
import { AgentGate, type RunEvent } from '../sdk/typescript/src/index.ts'
import { openJails } from '../server/src/jail/jail.ts'
import { makeBenchFolder } from './bench-folder.ts'
import { LIMITS, type OwnGateway, openGateway } from './gateway.ts'
import { percentile, rounded } from './load.ts'
import { processTree, pssMib } from './process-figures.ts'
import type { BenchOptions, Outcome, Row } from './suite.ts'

const AIM_MS = 400
const ORDERS_PER_SECOND = 2
const JAILS_PER_SECOND = 20
const AT_ONCE = 8

const PROJECT = {
  'package.json': JSON.stringify({ name: 'sums', type: 'module', scripts: { test: 'node --test' } }),
  'README.md': '# sums\n',
  'sum.js': 'export const sum = (a, b) => a + b\n',
  'sum.test.js':
    "import assert from 'node:assert'\nimport { test } from 'node:test'\nimport { sum } from './sum.js'\ntest('adds', () => assert.equal(sum(2, 3), 5))\n",
}

const SCRIPT: ModelScript = [
  { text: 'I look.', calls: [{ tool: 'list_files', arguments: {} }] },
  { text: 'I write.', calls: [{ tool: 'write_file', arguments: { path: 'NOTE.md', content: 'A note.\n' } }] },
  { text: 'Done.', calls: [{ tool: 'finish', arguments: { summary: 'Left a note.' } }] },
]

const SLEEPING = {
  steps: [{ text: 'z', calls: [{ tool: 'run_command', arguments: { command: 'sleep 600' } }] }],
}

export async function measureOrders(options: BenchOptions): Promise<Outcome> {
  const host = await startGitHost()
  const model = await startModelServer({ script: SCRIPT })
  try {
    const {
      url: repository,
      token,
      apiBaseUrl,
    } = await host.createRepository({
      owner: 'bench',
      name: 'sums',
      files: PROJECT,
    })
    const hostPort = new URL(repository).host
    const settings = {
      AGENTGATE_ALLOWED_PRIVATE_HOSTS: hostPort,
      AGENTGATE_JAIL_SLOTS: String(AT_ONCE),
      OPENAI_API_KEY: 'scripted',
      AGENTGATE_OPENAI_BASE_URL: model.url,
      AGENTGATE_MODELS: 'openai/scripted',
    }
    await using gateway = await openGateway({ ...options, settings })
    if (gateway.jail === 'unavailable') throw new Error('No jail works here; ./agentgate doctor says why.')
    const live = new AgentGate({ apiKey: gateway.liveKey, baseUrl: gateway.url })
    const test = new AgentGate({ apiKey: gateway.testKey, baseUrl: gateway.url })
    for (const client of [live, test]) {
      await client.gitCredentials.create({
        host: hostPort,
        kind: 'token',
        use: 'publish',
        secret: token,
        apiBaseUrl,
      })
    }
    const phases = [
      await measureMode(live, { mode: 'live', repository, ...options }),
      await measureMode(test, { mode: 'test', repository, ...options }),
    ]
    const jail = await measureJail(options)
    const memory = await measureMemory(gateway, { client: test, repository, ...options })
    return {
      conditions: { ...LIMITS, jailSlots: AT_ONCE, jail: gateway.jail },
      tables: [
        { title: 'Work orders, medians', rows: phases },
        { title: 'Start of a jail', rows: [jail] },
        { title: 'Memory of running orders', rows: [memory] },
      ],
      findings: phases.map(
        ({ mode, overheadP50Ms }) => `${mode} mode: overhead p50 ${overheadP50Ms} ms (aim ${AIM_MS}).`,
      ),
    }
  } finally {
    await Promise.all([host.close(), model.close()])
  }
}

async function measureMode(
  client: AgentGate,
  { mode, repository, seconds, signal }: BenchOptions & { mode: string; repository: string },
): Promise<Row> {
  const orders: Phases[] = []
  const count = Math.max(3, Math.round(seconds * ORDERS_PER_SECOND))
  for (let i = 0; i <= count; i++) {
    signal.throwIfAborted()
    const phases = await performOrder(client, repository)
    // The first makes the mirror.
    if (i > 0) orders.push(phases)
  }
  const of = (key: keyof Phases, share = 0.5): number =>
    rounded(
      percentile(
        orders.map((order) => order[key]).sort((a, b) => a - b),
        share,
      ),
    )
  return {
    mode,
    orders: count,
    overheadP50Ms: of('overheadMs'),
    overheadP95Ms: of('overheadMs', 0.95),
    wholeMs: of('wholeMs'),
    workspaceMs: of('workspaceMs'),
    agentMs: of('agentMs'),
    gatesMs: of('gatesMs'),
    setupMs: of('setupMs'),
  }
}

/** Of one order, in milliseconds. */
interface Phases {
  wholeMs: number
  workspaceMs: number
  agentMs: number
  gatesMs: number
  setupMs: number
  overheadMs: number
}

async function performOrder(client: AgentGate, repository: string): Promise<Phases> {
  const { runId } = await client.workOrders.create({
    taskPrompt: 'Leave a note.',
    workspaceSource: { type: 'git', repository },
  })
  const run = await client.runs.wait(runId, { timeout: 120_000 })
  if (run.prUrl === null) throw new Error(`The order has no pull request: ${JSON.stringify(run.error)}`)
  const events: RunEvent[] = []
  for await (const event of client.runs.events(runId, { limit: 100 })) events.push(event)
  return phasesOf(events)
}

function phasesOf(events: readonly RunEvent[]): Phases {
  const momentOf = (type: string): number => {
    const event = events.find((each) => each.type === type)
    if (event === undefined) throw new Error(`The run has no ${type}.`)
    return Date.parse(event.createdAt)
  }
  const workspaceMs = momentOf('workspace.ready') - momentOf('run.started')
  const wholeMs = momentOf('delivery.pull_request') - momentOf('run.created')
  const setupMs = sumOfDurations(events, 'workspace.ready', 'setup')
  const gatesMs = sumOfDurations(events, 'verification.passed', 'gates')
  const agentMs = stepTimes(events) + sumOfDurations(events, 'tool.completed')
  const overheadMs = wholeMs - agentMs - gatesMs - setupMs
  return { wholeMs, workspaceMs: workspaceMs - setupMs, agentMs, gatesMs, setupMs, overheadMs }
}

/** What events of a type report as `durationMs`, of themselves or of each member of a list. */
function sumOfDurations(events: readonly RunEvent[], type: string, list?: string): number {
  const reports = events
    .filter((event) => event.type === type)
    .flatMap(({ data }) => (list === undefined ? [data] : membersOf(data, list)))
  return reports.reduce<number>((sum, report) => sum + durationOf(report), 0)
}

const membersOf = (data: object, list: string): unknown[] => {
  const members: unknown = Reflect.get(data, list)
  return Array.isArray(members) ? members : []
}

const durationOf = (report: unknown): number =>
  typeof report === 'object' && report !== null && 'durationMs' in report ? Number(report.durationMs) : 0

function stepTimes(events: readonly RunEvent[]): number {
  let sum = 0
  let startedAt = 0
  for (const { type, createdAt } of events) {
    if (type === 'step.started') startedAt = Date.parse(createdAt)
    if (type === 'step.completed') sum += Date.parse(createdAt) - startedAt
  }
  return sum
}

async function measureJail({ seconds, signal }: BenchOptions): Promise<Row> {
  await using folder = await makeBenchFolder()
  const root = join(folder.path, 'jails')
  const workspace = join(root, 'workspace')
  await mkdir(workspace, { recursive: true })
  await chmod(root, 0o711)
  const log = { info: () => undefined, warn: () => undefined }
  await using jails = await openJails({ log, slots: 1, preferred: 'bubblewrap', root })
  const slot = await jails.acquireSlot()
  await slot.own(workspace)
  const jailed = async (): Promise<void> => {
    const argv = ['/bin/true']
    const result = await slot.run({ argv, workspace, timeoutMs: 20_000, maxOutputBytes: 1_000, signal })
    if (result.outcome !== 'exited') throw new Error(`The jail answered ${JSON.stringify(result)}`)
  }
  const bare = async (): Promise<void> => {
    await once(spawn('/bin/true'), 'exit')
  }
  const count = Math.max(10, Math.round(seconds * JAILS_PER_SECOND))
  const times: Record<'jailed' | 'bare', number[]> = { jailed: [], bare: [] }
  for (let i = 0; i < count; i++) {
    times.jailed.push(await timed(jailed))
    times.bare.push(await timed(bare))
  }
  const of = (kind: 'jailed' | 'bare', share: number): number =>
    rounded(
      percentile(
        times[kind].sort((a, b) => a - b),
        share,
      ),
    )
  return {
    starts: count,
    jailedP50Ms: of('jailed', 0.5),
    jailedP95Ms: of('jailed', 0.95),
    bareP50Ms: of('bare', 0.5),
    bareP95Ms: of('bare', 0.95),
    limits: jails.report.limits,
  }
}

async function timed(act: () => Promise<void>): Promise<number> {
  const startedAt = performance.now()
  await act()
  return performance.now() - startedAt
}

async function measureMemory(
  gateway: OwnGateway,
  { client, repository, signal }: BenchOptions & { client: AgentGate; repository: string },
): Promise<Row> {
  const beforeMib = pssMib(processTree(gateway.pid))
  const runIds: string[] = []
  for (let i = 0; i < AT_ONCE; i++) {
    const order = await client.workOrders.create({
      taskPrompt: 'Sleep.',
      workspaceSource: { type: 'git', repository },
      test: { script: SLEEPING },
    })
    runIds.push(order.runId)
  }
  await Promise.all(runIds.map((id) => untilEvent(client, { id, type: 'tool.started', signal })))
  await pause(1_000, undefined, { signal })
  const duringMib = pssMib(processTree(gateway.pid))
  for (const id of runIds) await client.runs.cancel(id)
  for (const id of runIds) await client.runs.wait(id, { timeout: 60_000 })
  return {
    orders: AT_ONCE,
    beforeMib,
    duringMib,
    perOrderMib: rounded((duringMib - beforeMib) / AT_ONCE),
  }
}

async function untilEvent(
  client: AgentGate,
  { id, type, signal }: { id: string; type: string; signal: AbortSignal },
): Promise<void> {
  for await (const event of client.runs.events(id, { follow: true }, { signal })) {
    if (event.type === type) return
  }
  throw new Error(`The run ended before ${type}.`)
}
