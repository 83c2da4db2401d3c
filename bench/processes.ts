/**
 * Several gateways on one PostgreSQL (`DATABASE_URL`, fsync on): runs of three steps (see three-steps) by 128
 * clients, spread evenly over the processes that take orders. One after the other on the same database: one, two and
 * four whole gateways (`--role all`), and one `api` with one `worker`, where every run goes through the queue, a
 * notification and a claim. On a machine whose cores are full, more processes cannot bring more: the figures show
 * what sharing costs.
 */
import { randomBytes } from 'node:crypto'
import { chmod, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { openClient, runToEnd, THREE_STEPS } from './client.ts'
import { type BenchDatabase, openBenchDatabase } from './database.ts'
import { figuresPerRun, readFigures } from './database-figures.ts'
import { firstKey, type Gateway, LIMITS, startGateway } from './gateway.ts'
import { p50, p99, perSecond, putLoad } from './load.ts'
import { watchCores } from './process-figures.ts'
import type { BenchOptions, Outcome, Row } from './suite.ts'

type Role = 'all' | 'api' | 'worker'

const CLIENTS = 128
const WARM_UP_SECONDS = 2
const VARIANTS: readonly (readonly Role[])[] = [
  ['all'],
  ['all', 'all'],
  ['all', 'all', 'all', 'all'],
  ['api', 'worker'],
]

export async function measureProcesses(options: BenchOptions): Promise<Outcome> {
  await using shared = await openBenchDatabase()
  const masterKey = randomBytes(32).toString('base64')
  const keys: { live?: string } = {}
  const rows: Row[] = []
  for (const roles of VARIANTS) {
    const gateways: Gateway[] = []
    try {
      for (const [i, role] of roles.entries()) {
        const dataDir = join(shared.path, `${rows.length}-${i}`)
        await mkdir(dataDir)
        await chmod(dataDir, 0o711)
        const settings = {
          DATABASE_URL: shared.url,
          AGENTGATE_MASTER_KEY: masterKey,
          AGENTGATE_ROLE: role,
        }
        gateways.push(await startGateway(dataDir, { ...options, settings }))
        keys.live ??= firstKey(dataDir, 'live')
      }
      const fronts = gateways.filter((_, i) => roles[i] !== 'worker')
      const row = await measureVariant(shared, { ...options, gateways, fronts, key: keys.live ?? '' })
      rows.push({ processes: roles.length, roles: [...new Set(roles)].join(' + '), ...row })
    } finally {
      await Promise.all(gateways.map((gateway) => gateway[Symbol.asyncDispose]()))
    }
  }
  const [one] = rows
  return {
    conditions: { ...LIMITS, clients: CLIENTS },
    tables: [{ title: 'Processes on one PostgreSQL', rows }],
    findings: rows
      .slice(1)
      .map(
        (row) =>
          `${row['processes']} processes (${row['roles']}): ${(Number(row['runsPerSecond']) / Number(one?.['runsPerSecond'])).toFixed(2)} of one process.`,
      ),
  }
}

interface Variant extends BenchOptions {
  gateways: readonly Gateway[]
  /** Those that take orders. */
  fronts: readonly Gateway[]
  key: string
}

async function measureVariant(
  { database, postmasterPid }: BenchDatabase,
  { gateways, fronts, key, ...options }: Variant,
): Promise<Row> {
  const clients = fronts.map(({ url }) => openClient(url, { key, connections: CLIENTS }))
  try {
    let turn = 0
    const call = async (): Promise<void> => {
      const client = clients[turn++ % clients.length]
      if (client) await runToEnd(client, THREE_STEPS)
    }
    await putLoad(call, { ...options, clients: CLIENTS, seconds: Math.min(WARM_UP_SECONDS, options.seconds) })
    const before = await readFigures(database)
    const cores = watchCores({ gateways: gateways.map(({ pid }) => pid), postmaster: postmasterPid })
    const load = await putLoad(call, { ...options, clients: CLIENTS })
    const used = cores(load.seconds)
    const after = await readFigures(database)
    return {
      runsPerSecond: perSecond(load),
      p50Ms: p50(load),
      p99Ms: p99(load),
      ...used,
      ...figuresPerRun(before, after, load.latenciesMs.length),
    }
  } finally {
    await Promise.all(clients.map((client) => client[Symbol.asyncDispose]()))
  }
}
