/**
 * Kills parts of a running house and looks whether it kept its promises: nothing a client was told is lost, nothing
 * happens twice (invariants 1, 2, 6, 7, 8, 10).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Database } from '../../src/storage/database.ts'
import { DatabaseError } from '../../src/storage/database-error.ts'
import { verifyDatabase } from '../../src/storage/verify.ts'
import type { CrashPlan } from './crash-entry.ts'
import { CrashLoad } from './crash-load.ts'
import { CrashWorld, type CrashWorldOptions, type Role } from './crash-world.ts'

export const POINTS = ['commit.before', 'commit.after', 'delivery.claimed', 'delivery.sent'] as const

/** What is done to the house in one round. */
export type Blow =
  | { kind: 'point'; point: (typeof POINTS)[number]; count: number }
  | {
      kind: 'process' | 'postmaster' | 'terminate' | 'backend' | 'both' | 'freeze'
      afterMs: number
      /** Whom it hits; anybody when it is not said. */
      role?: Role
    }

export interface RoundReport {
  blow: string
  /** From the blow until each interrupted run was claimed again, in milliseconds. */
  resumedMs: number[]
  /** From the blow to the first commit after it. */
  nextCommitMs: number | null
  /** From the blow until the process that died takes orders again; `null` when none died. */
  readyMs: number | null
  problems: string[]
}

export interface CrashOptions extends CrashWorldOptions {
  seed: number
  blows: (random: () => number, round: number) => Blow
  rounds: number
  /** Longest time a round may take until all of its runs are final. */
  patienceMs: number
  /** How long a frozen process stays frozen. */
  freezeMs: number
  onRound?: (report: RoundReport, round: number) => void
}

export interface CrashReport {
  rounds: RoundReport[]
  runs: number
  deliveries: number
  problems: string[]
}

/** The same numbers for the same seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export async function runCrashRounds(options: CrashOptions): Promise<CrashReport> {
  const random = seeded(options.seed)
  const world = await CrashWorld.open(options)
  const load = await CrashLoad.open(world, random)
  const rounds: RoundReport[] = []
  try {
    for (let round = 0; round < options.rounds; round++) {
      const report = await playRound({ world, load, random, options }, options.blows(random, round))
      rounds.push(report)
      options.onRound?.(report, round)
    }
    const problems = [...rounds.flatMap((round) => round.problems), ...load.problems, ...world.complaints]
    return { rounds, runs: load.acknowledged.size, deliveries: load.receivedCount, problems }
  } finally {
    await load.close()
    await world.close()
  }
}

/** A look at the database, again from its start if the server was killed under it. */
async function untilThere<T>(world: CrashWorld, look: (database: Database) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await look(await world.database())
    } catch (error) {
      if (!(error instanceof DatabaseError && error.isTransient) || attempt === 20) throw error
      await sleep(250)
    }
  }
}

interface Stage {
  world: CrashWorld
  load: CrashLoad
  random: () => number
  options: CrashOptions
}

const RUNS_PER_ROUND = 16
const SPREAD_MS = 500
/** How long a race point is waited for; then the process is killed wherever it is. */
const POINT_PATIENCE_MS = 3_000

async function playRound(stage: Stage, blow: Blow): Promise<RoundReport> {
  const { load, options, world } = stage
  const victim = chooseVictim(stage, blow)
  if (blow.kind === 'point') await arm(stage, victim, blow)
  const creating = load.create(RUNS_PER_ROUND, SPREAD_MS)
  const { blownAt, readyMs } = await strike(stage, blow, victim)
  await creating
  const problems = await untilThere(world, (database) => settle(stage, database))
  problems.push(...(await untilThere(world, (database) => examine(load, database))))
  const name = blow.kind === 'point' ? `${blow.point} × ${blow.count}` : blow.kind
  const seed = `seed ${options.seed}`
  return {
    blow: name,
    ...(await untilThere(world, (database) => readTimes(database, blownAt))),
    readyMs,
    problems: problems.map((problem) => `${name} (${seed}): ${problem}`),
  }
}

interface Victim {
  name: string
  role: Role
}

/** Somebody who will see the race point; who only takes orders cannot be frozen, as no lease covers that. */
function chooseVictim({ world, random }: Stage, blow: Blow): Victim {
  const isWorkers = blow.kind === 'freeze' || (blow.kind === 'point' && blow.point.startsWith('delivery'))
  const wanted = blow.kind === 'point' ? undefined : blow.role
  const able = world.members.filter(
    ({ role }) => (!isWorkers || role !== 'api') && (wanted === undefined || role === wanted),
  )
  const { name, role } = able[Math.floor(random() * able.length)] ?? world.member('gateway')
  return { name, role }
}

/** Replaces a process, while nothing is at work, by one that will die at the race point. */
async function arm({ world }: Stage, { name, role }: Victim, plan: CrashPlan): Promise<void> {
  const { child, gone } = world.member(name)
  child.kill('SIGKILL')
  await gone
  await world.start(name, role, plan)
}

interface Struck {
  blownAt: number
  readyMs: number | null
}

/** Deals the blow and brings back what it killed. */
async function strike(stage: Stage, blow: Blow, victim: Victim): Promise<Struck> {
  const { world, options } = stage
  const { child, gone } = world.member(victim.name)
  if (blow.kind === 'point') {
    const inTime = await Promise.race([gone, sleep(POINT_PATIENCE_MS).then(() => null)])
    if (inTime === null) child.kill('SIGKILL')
    return bringBack(world, victim, inTime ?? (await gone))
  }
  await sleep(blow.afterMs)
  const postmaster = await world.postmasterPid()
  const [backend = postmaster] = await world.writerBackends()
  const blownAt = Date.now()
  switch (blow.kind) {
    case 'freeze':
      child.kill('SIGSTOP')
      await sleep(options.freezeMs)
      child.kill('SIGCONT')
      return { blownAt, readyMs: null }
    case 'terminate':
      await (await world.database())
        .query('select pg_terminate_backend($1)', [backend])
        .catch(() => 'it was the one that was asked')
      return { blownAt, readyMs: null }
    case 'backend':
      process.kill(backend, 'SIGKILL')
      return { blownAt, readyMs: null }
    case 'postmaster':
      process.kill(postmaster, 'SIGKILL')
      return { blownAt, readyMs: null }
    case 'both':
      process.kill(postmaster, 'SIGKILL')
      break
    case 'process':
      break
  }
  child.kill('SIGKILL')
  await gone
  return bringBack(world, victim, blownAt)
}

async function bringBack(world: CrashWorld, { name, role }: Victim, blownAt: number): Promise<Struck> {
  await world.start(name, role)
  return { blownAt, readyMs: Date.now() - blownAt }
}

/** Waits until every run is final; what is not by then is a problem. */
async function settle({ load, options }: Stage, database: Database): Promise<string[]> {
  const giveUpAt = Date.now() + options.patienceMs
  for (;;) {
    const open = await database.query<{ id: string; state: string; worker_id: string | null }>(
      "select id, state, worker_id from run where state in ('queued', 'running') limit 5",
    )
    if (open.length === 0) return []
    if (Date.now() > giveUpAt) {
      return [
        `after ${options.patienceMs} ms not final: ${JSON.stringify(open)} of ${load.acknowledged.size}`,
      ]
    }
    await sleep(20)
  }
}

interface StoredEnd {
  id: string
  state: string
  reason: string
  steps: number | null
  deducts: number
  keys: number
}

async function examine(load: CrashLoad, database: Database): Promise<string[]> {
  const problems: string[] = []
  for await (const { invariant, subject, sentence } of verifyDatabase(database)) {
    problems.push(`invariant ${invariant}, ${subject}: ${sentence}`)
  }
  const rows = await database.query<StoredEnd>(
    `select run.id, state, status_reason as reason, (fold::json -> 'usage' ->> 'steps')::int as steps,
       coalesce(deducts, 0)::int as deducts, coalesce(keys, 0)::int as keys
     from run
       left join (select run_id, count(*) as deducts from ledger where kind = 'deduct' group by run_id) as charged
         on charged.run_id = run.id
       left join (select subject_id, count(*) as keys from idempotency_key group by subject_id) as named
         on named.subject_id = run.id`,
  )
  const stored = new Map(rows.map((row) => [row.id, row]))
  for (const [key, id] of load.acknowledged) {
    const row = stored.get(id)
    if (load.reported.has(id)) continue
    const before = problems.length
    if (row === undefined) problems.push(`${id} was acknowledged (key ${key}) and does not exist`)
    else if (row.state !== 'completed') problems.push(`${id} is ${row.state} (${row.reason}), not completed`)
    else if (row.steps !== 3) problems.push(`${id} took ${row.steps} steps`)
    else if (row.deducts !== 1) problems.push(`${id} was charged ${row.deducts} times`)
    if (problems.length > before) load.reported.add(id)
  }
  for (const { id, keys } of rows) if (keys !== 1) problems.push(`${id} was made by ${keys} keys`)
  return [...problems, ...load.checkWebhooks()]
}

async function readTimes(
  database: Database,
  blownAt: number,
): Promise<Pick<RoundReport, 'resumedMs' | 'nextCommitMs'>> {
  const resumed = await database.query<{ at: Date }>(
    `select min(at) as at from run_event where at > $1 and events like '%"type":"run.resumed"%' group by run_id`,
    [new Date(blownAt)],
  )
  const [next] = await database.query<{ at: Date | null }>(
    'select min(at) as at from run_event where at > $1',
    [new Date(blownAt + 1)],
  )
  return {
    resumedMs: resumed.map(({ at }) => at.getTime() - blownAt),
    nextCommitMs: next?.at ? next.at.getTime() - blownAt : null,
  }
}
