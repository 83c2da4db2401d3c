/**
 * Durable runs of three steps per second, through the front door: created over HTTP with the scripted driver and
 * waited for in the same request (`Prefer: wait`), by 1, 32 and 128 clients with one request under way each. Live
 * mode: credits are reserved and settled. The load comes from the bench's own process; gateway and PostgreSQL
 * (embedded, fsync on) have theirs, on the same cores, and the CPU of each is told. Rows, commits, WAL and events are
 * differences of the database before and after, divided by runs.
 *
 * In a pass of its own a second connection watches: in every snapshot no run may have begun step n + 1 while step n
 * is not in the journal, and whatever an answer told must be there when the answer arrives.
 */
import { cpus } from 'node:os'
import { type BenchClient, openClient, runIdOf, runToEnd, THREE_STEPS } from './client.ts'
import { figuresPerRun, readFigures } from './database-figures.ts'
import { LIMITS, type OwnGateway, openGateway } from './gateway.ts'
import { p50, p99, perSecond, putLoad, rounded } from './load.ts'
import { watchCores } from './process-figures.ts'
import type { BenchOptions, Outcome, Row } from './suite.ts'

const CLIENTS = [1, 32, 128] as const
const WATCHED_CLIENTS = 16
/** Enough runs that the engine's code is compiled: one client alone would take minutes. */
const WARM_UP = { seconds: 3, clients: 32 }

export async function measureThreeSteps(options: BenchOptions): Promise<Outcome> {
  await using gateway = await openGateway(options)
  await using client = openClient(gateway.url, {
    key: gateway.liveKey,
    connections: Math.max(...CLIENTS),
  })
  const rows: Row[] = []
  for (const clients of CLIENTS) rows.push(await measureClients(gateway, client, { ...options, clients }))
  const watched = await watch(gateway, client, options)
  return {
    conditions: { ...LIMITS, flushers: 2, mode: 'live' },
    tables: [
      { title: 'Three-step runs', rows },
      { title: 'Seen by a second connection', rows: [watched] },
    ],
    findings: findingsOf(rows, watched),
  }
}

async function measureClients(
  gateway: OwnGateway,
  client: BenchClient,
  options: BenchOptions & { clients: number },
): Promise<Row> {
  await using db = await gateway.connect()
  const call = (): Promise<string> => runToEnd(client, THREE_STEPS)
  await putLoad(call, { ...options, ...WARM_UP })
  const before = await readFigures(db)
  const cores = watchCores({ gateways: [gateway.pid], postmaster: gateway.postmasterPid })
  const load = await putLoad(call, options)
  const used = cores(load.seconds)
  const after = await readFigures(db)
  const runs = load.latenciesMs.length
  return {
    clients: options.clients,
    runs,
    runsPerSecond: perSecond(load),
    p50Ms: p50(load),
    p99Ms: p99(load),
    ...used,
    ...figuresPerRun(before, after, runs),
  }
}

/** What one snapshot shows of runs at work: steps begun and steps journaled. */
const SNAPSHOT = `
  select count(*)::int as seen, (count(*) filter (where begun > 1))::int as midway,
    (count(*) filter (where begun - 1 > journaled))::int as early
  from (
    select (select coalesce(sum(regexp_count(events, '"type":"step.started"')), 0) from run_event where run_id = run.id) as begun,
      (select count(*) from step where run_id = run.id and kind = 'step') as journaled
    from run where worker_id is not null limit 100
  ) as at_work`

const ANSWERED = `
  select (run.state = 'completed' and run_outcome is not null
    and (select count(*) from step where run_id = run.id and kind = 'step') = 3
    and (select sum(last_seq - first_seq + 1) from run_event where run_id = run.id) = run.last_seq) as is_durable
  from run left join run_outcome on run_outcome.run_id = run.id where run.id = $1`

async function watch(gateway: OwnGateway, client: BenchClient, options: BenchOptions): Promise<Row> {
  await using onAnswers = await gateway.connect()
  await using onSnapshots = await gateway.connect()
  const seen = { answers: 0, answersNotDurable: 0, snapshots: 0, runsAtWork: 0, midway: 0, begunEarly: 0 }
  let checking = Promise.resolve()
  const check = async (id: string): Promise<void> => {
    const [row] = await onAnswers.query<{ is_durable: boolean }>({ name: 'answered', text: ANSWERED }, [id])
    seen.answers++
    if (row?.is_durable !== true) seen.answersNotDurable++
  }
  const answer = async (): Promise<void> => {
    const id = runIdOf(await runToEnd(client, THREE_STEPS))
    // A connection does one thing at a time.
    checking = checking.then(() => check(id))
    await checking
  }
  let isOver = false
  const sampling = (async () => {
    while (!isOver) {
      const [row] = await onSnapshots.query<{ seen: number; midway: number; early: number }>({
        name: 'snapshot',
        text: SNAPSHOT,
      })
      seen.snapshots++
      seen.runsAtWork += row?.seen ?? 0
      seen.midway += row?.midway ?? 0
      seen.begunEarly += row?.early ?? 0
    }
  })()
  const load = putLoad(answer, { ...options, clients: WATCHED_CLIENTS }).finally(() => {
    isOver = true
  })
  await Promise.all([load, sampling])
  return seen
}

function findingsOf(rows: readonly Row[], watched: Row): string[] {
  const at = (clients: number): Row => rows.find((row) => row['clients'] === clients) ?? {}
  const [single, many] = [at(1), at(128)]
  const cores = ['gatewayCores', 'postgresCores', 'loadCores'].reduce(
    (sum, key) => sum + Number(many[key]),
    0,
  )
  const early = Number(watched['begunEarly']) + Number(watched['answersNotDurable'])
  return [
    `128 clients: ${many['runsPerSecond']} runs/s (aim 3,000, floor 2,000). One client: p50 ${single['p50Ms']} ms (aim 4).`,
    `At 128 clients gateway, PostgreSQL and load used ${rounded(cores)} of ${cpus().length} cores.`,
    `${single['commitsPerRun']} commits per run with one client (4 are expected; leases are renewed beside them).`,
    early === 0
      ? 'No step began before the one before it was durable, and no answer told what was not.'
      : `${early} times a step or an answer came before it was durable.`,
  ]
}
