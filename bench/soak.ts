/**
 * Whether anything grows with the orders a gateway has done: work orders one after the other on a small project of a
 * git host on loopback (see orders), in turns in live mode, where a scripted model speaks the wire protocol of
 * OpenAI and the change becomes a pull request, and in test mode, where a script does about the same. The gateway is
 * a process of its own; what is told is of this process alone, between two orders, ten times along the way.
 *
 * live is what V8 has in use after it was made to collect all garbage (heap and buffers), with the code that it has
 * compiled; resident memory also holds what was freed and not given back. Processes are those below
 * the gateway without its PostgreSQL, work files whatever stands in the folder of workspaces, without mirrors and
 * bare repositories, which grow with what is pushed, and data files whatever stands beside the database. Rows are
 * meant to grow: they are what the orders leave, until the purge.
 *
 * The first orders open what stays open: mirrors, connections, code. The trend is the slope of a line through the
 * samples behind them.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { AgentGate } from '../sdk/typescript/src/index.ts'
import { jailRoot } from '../server/src/jail/jail-files.ts'
import type { DedicatedConnection } from '../server/src/storage/database.ts'
import { makeBenchFolder } from './bench-folder.ts'
import { LIMITS, type OwnGateway, startOwnGateway } from './gateway.ts'
import type { Inspector } from './inspector.ts'
import { rounded } from './load.ts'
import { openProject } from './order-project.ts'
import { holdings, processTree, pssMib, rssMib } from './process-figures.ts'
import type { BenchOptions, Outcome, Row } from './suite.ts'

const SAMPLES = 10
const WARM_UP_SHARE = 0.2
/** More than this is a leak; less is what V8 compiles of code that has become warm, which ends. */
const LEAK_KIB = 16
/** A client hears of the end of a run a moment before its workspace is removed. */
const REMOVAL_MS = 10_000

export async function measureSoak(options: BenchOptions): Promise<Outcome> {
  await using project = await openProject()
  await using folder = await makeBenchFolder()
  await using gateway = await startOwnGateway(folder, { settings: project.settings, inspected: true })
  using inspector = await gateway.inspect()
  await using db = await gateway.connect()
  const { live, test } = await project.open(gateway)
  const look = (orders: number): Promise<Sample> => takeSample({ orders, gateway, inspector, db, ...folder })
  const samples = [await look(0)]
  const every = Math.max(2, Math.ceil(options.orders / SAMPLES))
  for (let done = 0; done < options.orders; ) {
    options.signal.throwIfAborted()
    await performOrder(done % 2 === 0 ? live : test, project.repository)
    done++
    if (done % every === 0 || done === options.orders) samples.push(await look(done))
  }
  const rows = samples.map(withoutTables)
  const warm = rows.filter(({ orders }) => orders >= options.orders * WARM_UP_SHARE)
  const kib = rounded(slope(warm.map(({ orders, liveMib }) => [orders, liveMib * 1024])))
  return {
    conditions: { ...LIMITS, orders: options.orders },
    tables: [
      { title: 'The gateway between orders', rows },
      { title: 'Rows an order leaves', rows: [rowsPerOrder(samples)] },
    ],
    findings: [
      `Live memory grows by ${kib} KiB an order${kib > LEAK_KIB ? ': a leak' : ', which is no leak'}.`,
      ...grown(warm),
    ],
  }
}

interface Sample {
  orders: number
  liveMib: number
  rssMib: number
  pssMib: number
  files: number
  threads: number
  processes: number
  mounts: number
  workFiles: number
  dataFiles: number
  tables: Record<string, number>
}

function withoutTables(sample: Sample): Omit<Sample, 'tables'> {
  const { tables: _tables, ...rest } = sample
  return rest
}

interface Place {
  orders: number
  gateway: OwnGateway
  inspector: Inspector
  db: DedicatedConnection
  dataDir: string
}

async function takeSample({ orders, gateway, inspector, db, dataDir }: Place): Promise<Sample> {
  const { pid, postmasterPid } = gateway
  const work = jailRoot(dataDir)
  await workspacesRemoved(join(work, 'git/runs'))
  const postgres = new Set(processTree(postmasterPid))
  const liveMib = rounded(await inspector.liveMib())
  return {
    orders,
    liveMib,
    rssMib: rssMib(pid),
    pssMib: pssMib([pid]),
    ...holdings(pid),
    processes: processTree(pid).filter((each) => each !== pid && !postgres.has(each)).length,
    workFiles: countFiles(work, ['mirrors', 'test-remotes']),
    dataFiles: countFiles(dataDir, ['postgresql', 'work']),
    tables: await countRows(db),
  }
}

/** What is left when the patience is over is counted, and told. */
async function workspacesRemoved(runs: string): Promise<void> {
  for (const end = performance.now() + REMOVAL_MS; performance.now() < end; await pause(20)) {
    if (!existsSync(runs) || readdirSync(runs).length === 0) return
  }
}

function countFiles(folder: string, without: readonly string[]): number {
  let count = 0
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (without.includes(entry.name)) continue
    count += entry.isDirectory() ? 1 + countFiles(join(folder, entry.name), without) : 1
  }
  return count
}

async function countRows(db: DedicatedConnection): Promise<Record<string, number>> {
  const tables = await db.query<{ name: string }>(
    `select relname as name from pg_class where relkind in ('r', 'p') and not relispartition
      and relnamespace = 'public'::regnamespace order by relname`,
  )
  const counts = tables.map(({ name }) => `select '${name}' as name, count(*) as count from ${name}`)
  const rows = await db.query<{ name: string; count: number }>(counts.join(' union all '))
  return Object.fromEntries(rows.map(({ name, count }) => [name, Number(count)]))
}

async function performOrder(client: AgentGate, repository: string): Promise<void> {
  const { runId } = await client.workOrders.create({
    taskPrompt: 'Leave a note.',
    workspaceSource: { type: 'git', repository },
  })
  const run = await client.runs.wait(runId, { timeout: 120_000 })
  if (run.prUrl === null) throw new Error(`The order has no pull request: ${JSON.stringify(run.error)}`)
}

/** Of the line with the least squares. */
function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (of: (point: readonly [number, number]) => number): number =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length
  const [meanX, meanY] = [mean(([x]) => x), mean(([, y]) => y)]
  const spread = mean(([x]) => (x - meanX) ** 2)
  return spread === 0 ? 0 : mean(([x, y]) => (x - meanX) * (y - meanY)) / spread
}

const GROWING = ['files', 'threads', 'processes', 'mounts', 'workFiles', 'dataFiles'] as const

function grown(warm: readonly Omit<Sample, 'tables'>[]): string[] {
  const [first, last] = [warm[0], warm.at(-1)]
  if (first === undefined || last === undefined) return []
  const more = GROWING.filter((key) => last[key] > first[key])
  if (more.length === 0) return ['Nothing else grew: files, threads, processes, mounts, folders.']
  return more.map(
    (key) => `${key}: ${first[key]} after ${first.orders} orders, ${last[key]} after ${last.orders}.`,
  )
}

function rowsPerOrder(samples: readonly Sample[]): Row {
  const [first, last] = [samples[0], samples.at(-1)]
  if (first === undefined || last === undefined) return {}
  const grownTables = Object.entries(last.tables).flatMap(([name, count]) => {
    const more = (count - (first.tables[name] ?? 0)) / last.orders
    return more === 0 ? [] : [[name, rounded(more)] as const]
  })
  return Object.fromEntries(grownTables)
}
