/**
 * How much of what is possible the gateway reaches: the same runs of three steps (see three-steps), and the same
 * rows written by a bare node:http server with the same flushers and the same statements in four commits, one after
 * the other, without authentication, validation, decisions, streams or claims. Each has a process and a PostgreSQL
 * (fsync on) of its own; they are measured in turns, three rounds each, from the bench's own process.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { builtProgram } from '../scripts/build.mjs'
import type { Database } from '../server/src/storage/database.ts'
import { MIGRATIONS, migrate } from '../server/src/storage/migrate.ts'
import { openClient, runIdOf, runToEnd, THREE_STEPS } from './client.ts'
import { type BenchDatabase, openBenchDatabase } from './database.ts'
import type { FloorTask } from './floor-server.ts'
import { LIMITS, type OwnGateway, openGateway } from './gateway.ts'
import { inTurns, p50, p99, perSecond, putLoad, rounded } from './load.ts'
import { readRunRows } from './run-rows.ts'
import type { BenchOptions, Outcome, Row } from './suite.ts'

const CLIENTS = [1, 32, 128] as const
const WARM_UP_SECONDS = 2

export async function measureFloor(options: BenchOptions): Promise<Outcome> {
  await using gateway = await openGateway(options)
  await using database = await openBenchDatabase()
  const connections = Math.max(...CLIENTS)
  await using ours = openClient(gateway.url, { key: gateway.liveKey, connections })
  await using server = await startFloor(await prepare(gateway, database))
  await using bare = openClient(server.url, { key: 'none', connections })
  const variants = {
    gateway: () => runToEnd(ours, THREE_STEPS),
    floor: () => bare.post('/', THREE_STEPS, { status: 201 }),
  }
  const rows: Row[] = []
  for (const clients of CLIENTS) {
    for (const call of Object.values(variants)) {
      await putLoad(call, { ...options, clients, seconds: Math.min(WARM_UP_SECONDS, options.seconds) })
    }
    const loads = await inTurns(variants, { ...options, clients })
    rows.push({
      clients,
      gatewayPerSecond: perSecond(loads.gateway),
      floorPerSecond: perSecond(loads.floor),
      ratio: rounded(perSecond(loads.gateway) / perSecond(loads.floor)),
      gatewayP50Ms: p50(loads.gateway),
      floorP50Ms: p50(loads.floor),
      gatewayP99Ms: p99(loads.gateway),
      floorP99Ms: p99(loads.floor),
    })
  }
  const most = rows.at(-1)
  return {
    conditions: { ...LIMITS, flushers: 2, rounds: 3 },
    tables: [{ title: 'The gateway and the floor', rows }],
    findings: [`At ${connections} clients the gateway reaches ${most?.['ratio']} of the floor (aim 0.6).`],
  }
}

/** A run to copy, and a database that knows its organisation, account and capacities. */
async function prepare(gateway: OwnGateway, { url, database }: BenchDatabase): Promise<FloorTask> {
  await using client = openClient(gateway.url, { key: gateway.liveKey, connections: 1 })
  const answer = await runToEnd(client, THREE_STEPS)
  await using db = await gateway.connect()
  const rows = await readRunRows(db, runIdOf(answer))
  await migrate(database, MIGRATIONS)
  for (const table of ['organization', 'account', 'capacity', 'lane']) {
    const found = await db.query<{ row: unknown }>(`select to_jsonb(t) as row from ${table} as t`)
    for (const { row } of found) await insert(database, table, row)
  }
  return { databaseUrl: url, rows, answer }
}

const insert = (database: Database, table: string, row: unknown): Promise<unknown> =>
  database.query(`insert into ${table} select * from jsonb_populate_record(null::${table}, $1::jsonb)`, [
    JSON.stringify(row),
  ])

interface Floor extends AsyncDisposable {
  url: string
}

/** Built as the gateway is, so that both run the same kind of code. */
async function startFloor(task: FloorTask): Promise<Floor> {
  const program = await builtProgram('bench/floor-server.ts')
  const child = spawn(process.execPath, [program], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const stop = (): Promise<void> => end(child)
  try {
    child.send(task)
    const gone = once(child, 'exit').then(() => {
      throw new Error('The floor ended before it was ready.')
    })
    gone.catch(() => undefined)
    const [url]: string[] = await Promise.race([once(child, 'message'), gone])
    return { url: url ?? '', [Symbol.asyncDispose]: stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.disconnect()
  await exited
}
