/**
 * Whether a long past costs anything: gateways whose databases hold no finished runs, 1,000,000 and, with
 * `--scale 10`, 10,000,000. The finished runs are copies of one that the gateway has made, inserted straight into
 * `run`, `run_body`, `run_outcome` and `run_event` (of each decision's events only the first), then vacuumed and
 * analysed. Each gateway has a PostgreSQL of its own, and they are measured in turns, three rounds each.
 *
 * create: one client, POST /v1/runs until its answer. list and get: one client; the first page of 20 with its total
 * (exact to 10,000), the page behind it, one run by its id. claim: 8 clients of a tenant whose cap is one run; from
 * the end of a run to the start of the next, as both say (whole milliseconds, so the mean is told).
 */
import { type BenchClient, ONE_STEP, openClient, runIdOf, runToEnd } from './client.ts'
import { LIMITS, type OwnGateway, openGateway } from './gateway.ts'
import { inTurns, p50, p99, putLoad, rounded } from './load.ts'
import { copyRun } from './run-rows.ts'
import type { BenchOptions, Outcome, Row } from './suite.ts'

const MILLION = 1_000_000
const AIM = 1.2
const ROUNDS = 3
const CLAIM_CLIENTS = 8
const SETTINGS = { AGENTGATE_MAX_CONCURRENT_RUNS_PER_TENANT: '1' }
const TENANT = 'queueing'
const ONE_STEP_OF_TENANT = JSON.stringify({ ...JSON.parse(ONE_STEP), tenantContext: { tenantId: TENANT } })

interface Past extends AsyncDisposable {
  finished: number
  gateway: OwnGateway
  client: BenchClient
}

export async function measureHistory(options: BenchOptions): Promise<Outcome> {
  const { scale } = options
  const counts = scale > 1 ? [0, MILLION, Math.round(scale * MILLION)] : [0, Math.round(scale * MILLION)]
  const pasts: Past[] = []
  try {
    for (const finished of counts) pasts.push(await openPast(finished, options))
    const rows: Row[] = []
    for (const [operation, prepare] of Object.entries(OPERATIONS)) {
      rows.push(...withRatios(await measureOperation(operation, pasts, { ...options, prepare })))
    }
    rows.push(...withRatios(await measureClaims(pasts, options)))
    return {
      conditions: { ...LIMITS, ...SETTINGS, rounds: ROUNDS, claimClients: CLAIM_CLIENTS },
      tables: [{ title: 'Latency by finished runs', rows }],
      findings: rows.filter((row) => Number(row['finishedRuns']) > 0).map(findingOf),
    }
  } finally {
    for (const past of pasts.reverse()) await past[Symbol.asyncDispose]()
  }
}

async function openPast(finished: number, options: BenchOptions): Promise<Past> {
  const gateway = await openGateway({ ...options, settings: SETTINGS })
  const client = openClient(gateway.url, { key: gateway.liveKey, connections: CLAIM_CLIENTS })
  const close = async (): Promise<void> => {
    await client[Symbol.asyncDispose]()
    await gateway[Symbol.asyncDispose]()
  }
  try {
    const id = runIdOf(await runToEnd(client, ONE_STEP))
    for (let page = 0; page < 40; page++) await runToEnd(client, ONE_STEP)
    await using db = await gateway.connect()
    await copyRun(db, { id, count: finished, signal: options.signal })
    return { finished, gateway, client, [Symbol.asyncDispose]: close }
  } catch (error) {
    await close()
    throw error
  }
}

type Prepare = (client: BenchClient) => Promise<() => Promise<unknown>>

/** What is timed; what it needs is made before. */
const OPERATIONS: Readonly<Record<string, Prepare>> = {
  create: async (client) => () => client.post('/v1/runs', ONE_STEP, { status: 201 }),
  'list, first page': async (client) => () => client.get('/v1/runs?limit=20'),
  'list, next page': async (client) => {
    const { nextCursor }: { nextCursor: string } = JSON.parse(await client.get('/v1/runs?limit=20'))
    return () => client.get(`/v1/runs?limit=20&after=${encodeURIComponent(nextCursor)}`)
  },
  get: async (client) => {
    const id = runIdOf(await runToEnd(client, ONE_STEP))
    return () => client.get(`/v1/runs/${id}`)
  },
}

async function measureOperation(
  operation: string,
  pasts: readonly Past[],
  { prepare, ...options }: BenchOptions & { prepare: Prepare },
): Promise<Row[]> {
  const calls: Record<string, () => Promise<unknown>> = {}
  for (const { finished, client } of pasts) calls[`${finished}`] = await prepare(client)
  const loads = await inTurns(calls, { ...options, clients: 1, rounds: ROUNDS })
  return Object.entries(loads).map(([finished, load]) => ({
    operation,
    finishedRuns: Number(finished),
    calls: load.latenciesMs.length,
    meanMs: rounded(load.latenciesMs.reduce((sum, each) => sum + each, 0) / load.latenciesMs.length),
    p50Ms: p50(load),
    p99Ms: p99(load),
  }))
}

const GAPS = `
  select count(gap)::int as claims, coalesce(avg(gap), 0)::float8 as mean,
    coalesce(percentile_disc(0.5) within group (order by gap), 0)::float8 as p50,
    coalesce(percentile_disc(0.99) within group (order by gap), 0)::float8 as p99
  from (
    select started - lag(completed) over (order by started, completed) as gap
    from (
      select (fold::json ->> 'startedAt')::float8 as started, (fold::json ->> 'completedAt')::float8 as completed
      from run where tenant_id = $1 and state = 'completed'
    ) as runs
  ) as gaps
  where gap < 1000`

async function measureClaims(pasts: readonly Past[], options: BenchOptions): Promise<Row[]> {
  for (let round = 0; round < ROUNDS; round++) {
    for (const { client } of pasts) {
      const seconds = options.seconds / ROUNDS
      await putLoad(() => runToEnd(client, ONE_STEP_OF_TENANT), {
        ...options,
        seconds,
        clients: CLAIM_CLIENTS,
      })
    }
  }
  const rows: Row[] = []
  for (const { finished, gateway } of pasts) {
    await using db = await gateway.connect()
    const [gaps] = await db.query<{ claims: number; mean: number; p50: number; p99: number }>(GAPS, [TENANT])
    if (!gaps?.claims) throw new Error('No run has waited for a claim.')
    rows.push({
      operation: 'claim',
      finishedRuns: finished,
      calls: gaps.claims,
      meanMs: rounded(gaps.mean),
      p50Ms: gaps.p50,
      p99Ms: gaps.p99,
    })
  }
  return rows
}

/** Of claims by their means, for their percentiles are whole milliseconds; else by medians. */
function withRatios(rows: readonly Row[]): Row[] {
  const [empty] = rows
  const key = empty?.['operation'] === 'claim' ? 'meanMs' : 'p50Ms'
  return rows.map((row) => ({ ...row, ratioToEmpty: rounded(Number(row[key]) / Number(empty?.[key])) }))
}

function findingOf({ operation, finishedRuns, ratioToEmpty }: Row): string {
  const verdict = Number(ratioToEmpty) <= AIM ? 'within' : 'missing'
  return `${operation} with ${Number(finishedRuns).toLocaleString('en-GB')} finished runs: ${ratioToEmpty} × empty, ${verdict} the aim of ${AIM}.`
}
