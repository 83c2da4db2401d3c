/**
 * What the gateway adds to an agent's work: work orders on a small npm project of a git host on loopback, one after
 * the other, with a mirror that is warm. In live mode a scripted model speaks the wire protocol of OpenAI without
 * delay (list files, write a file, finish) and the change becomes a pull request; in test mode the built-in script
 * does about the same, and the branch stays in the server. The project's own test is the gate.
 *
 * The overhead is the time from the create of the run to the pull request's event, less the agent's own time (from
 * asking the model to its answer, and what its tools took) and less the gates' and the set-up's own (as they
 * report). workspace is the time from the claim to the workspace's being ready: asking the host, fetching, cloning.
 * cpu is of the gateway and of all that it started and waited for, per order; starts are those programs.
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
import type { AgentGate, RunEvent } from '../sdk/typescript/src/index.ts'
import { openJails } from '../server/src/jail/jail.ts'
import { makeBenchFolder } from './bench-folder.ts'
import { LIMITS, type OwnGateway, openGateway } from './gateway.ts'
import type { Inspector } from './inspector.ts'
import { percentile, rounded } from './load.ts'
import { openProject } from './order-project.ts'
import { cpuSeconds, processTree, pssMib } from './process-figures.ts'
import type { BenchOptions, Outcome, Row } from './suite.ts'

const AIM_MS = 400
const ORDERS_PER_SECOND = 2
const JAILS_PER_SECOND = 20
const AT_ONCE = 8

const SLEEPING = {
  steps: [{ text: 'z', calls: [{ tool: 'run_command', arguments: { command: 'sleep 600' } }] }],
}

export async function measureOrders(options: BenchOptions): Promise<Outcome> {
  await using project = await openProject()
  const settings = { ...project.settings, AGENTGATE_JAIL_SLOTS: String(AT_ONCE) }
  await using gateway = await openGateway({ ...options, settings, inspected: true })
  const { live, test } = await project.open(gateway)
  using inspector = await gateway.inspect()
  const { repository } = project
  const phases = [
    await measureMode(live, { mode: 'live', repository, gateway, inspector, ...options }),
    await measureMode(test, { mode: 'test', repository, gateway, inspector, ...options }),
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
      ({ mode, overheadP50Ms, gitStarts }) =>
        `${mode} mode: overhead p50 ${overheadP50Ms} ms (aim ${AIM_MS}), with ${gitStarts} starts of git.`,
    ),
  }
}

interface Mode extends BenchOptions {
  mode: string
  repository: string
  gateway: OwnGateway
  inspector: Inspector
}

async function measureMode(
  client: AgentGate,
  { mode, repository, gateway, inspector, seconds, signal }: Mode,
): Promise<Row> {
  const orders: Phases[] = []
  const count = Math.max(3, Math.round(seconds * ORDERS_PER_SECOND))
  // The first makes the mirror.
  await performOrder(client, repository)
  const starts = await watchStarts(inspector)
  const before = cpuSeconds([gateway.pid])
  for (let i = 0; i < count; i++) {
    signal.throwIfAborted()
    orders.push(await performOrder(client, repository))
  }
  const cpuMs = rounded(((cpuSeconds([gateway.pid]) - before) * 1000) / count)
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
    cpuMs,
    ...(await starts(count)),
  }
}

/** Counts from now on which programs the gateway starts; gives how many an order took. */
async function watchStarts(inspector: Inspector): Promise<(orders: number) => Promise<Row>> {
  await inspector.evaluate(COUNT_STARTS)
  return async (orders) => {
    const counted = await inspector.evaluate('JSON.stringify(globalThis.benchStarts)')
    const starts: Record<string, number> = JSON.parse(String(counted))
    const all = Object.values(starts).reduce((sum, each) => sum + each, 0)
    const git = starts['git'] ?? 0
    return { gitStarts: rounded(git / orders), otherStarts: rounded((all - git) / orders) }
  }
}

const COUNT_STARTS = `
  if (globalThis.benchStarts === undefined) {
    process.getBuiltinModule('node:diagnostics_channel').subscribe('child_process', ({ process: child }) => {
      setImmediate(() => {
        const program = child.spawnfile.split('/').at(-1)
        globalThis.benchStarts[program] = (globalThis.benchStarts[program] ?? 0) + 1
      })
    })
  }
  globalThis.benchStarts = {}`

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
