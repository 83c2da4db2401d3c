import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RunId } from '../../src/domain/facts.ts'
import { Housekeeping } from '../../src/housekeeping.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { newId } from '../../src/lib/id.ts'
import { Metrics } from '../../src/lib/metrics.ts'
import { Meters } from '../../src/meters.ts'
import { findBlob, putBlob } from '../../src/storage/blobs.ts'
import { Disk } from '../../src/storage/disk.ts'
import { dropEmptyMonths, listMonths, makeMonthsAhead } from '../../src/storage/partitions.ts'
import { isPurged, markPurgeable, purgePortion, sweepBlobs } from '../../src/storage/purge.ts'
import { type EngineRoom, factsOf, openEngineRoom, storedRun, threeSteps } from '../core/engine-room.ts'

const DAY = 86_400_000

let room: EngineRoom
let organization: string
beforeAll(async () => {
  room = await openEngineRoom()
  organization = await room.organization(1_000_000)
})
afterAll(() => room[Symbol.asyncDispose]())

/** Runs that were created and finished so many days ago. */
async function finishedRuns(count: number, daysAgo: number): Promise<RunId[]> {
  const past = { ...systemClock, now: () => Date.now() - daysAgo * DAY }
  await using worker = await room.engine({ clock: past, slots: 10_000, capOf: () => 100_000 })
  const all = Array.from({ length: count }, () => factsOf(organization, birthAt(past.now())))
  await Promise.all(all.map((facts) => worker.create(facts)))
  await Promise.all(all.map(({ id }) => worker.finished(id)))
  return all.map(({ id }) => id)
}

const birthAt = (createdAt: number): { createdAt: number; id: RunId } => ({
  createdAt,
  id: newId('run', createdAt),
})

const rowsOf = async (table: string, ids: readonly string[]): Promise<number> => {
  const [row] = await room.database.query<{ rows: number }>(
    `select count(*)::int as rows from ${table} where run_id = any($1)`,
    [ids],
  )
  return row?.rows ?? 0
}

const markOlderThan = (days: number) =>
  markPurgeable(room.database, { after: '', before: new Date(Date.now() - days * DAY), at: new Date() })

async function purgeAll(): Promise<void> {
  while (await purgePortion(room.database));
}

test('the log of a run goes after its time, and what was asked, how it ended and what it cost stays', async () => {
  const old = await finishedRuns(3, 40)
  const young = await finishedRuns(3, 20)
  expect((await markOlderThan(30)).count).toBe(3)
  await purgeAll()
  for (const table of ['run_event', 'step']) {
    expect(await rowsOf(table, old)).toBe(0)
    expect(await rowsOf(table, young)).toBeGreaterThan(0)
  }
  for (const table of ['run_body', 'run_outcome', 'ledger'])
    expect(await rowsOf(table, old)).toBeGreaterThan(0)
  for (const id of old) expect(await storedRun(room.database, id)).toMatchObject({ state: 'completed' })
  for (const id of old) expect(await isPurged(room.database, id)).toBe(true)
  for (const id of young) expect(await isPurged(room.database, id)).toBe(false)
  expect(await room.findings()).toEqual([])
})

test('an old run that is not over, or still owes a delivery, is left whole', async () => {
  const past = { ...systemClock, now: () => Date.now() - 40 * DAY }
  await using idle = await room.engine({ clock: past, slots: 0 })
  const open = factsOf(organization, birthAt(past.now()))
  await idle.create(open)
  const [owing = 'run_'] = await finishedRuns(1, 40)
  await room.database.query(
    `insert into delivery (id, organization_id, mode, run_id, event_id, event_type, seq, url, created_at, next_attempt_at)
      values ($1, $2, 'live', $3, 'evt', 'run.completed', 1, 'https://a.test', $4, $4)`,
    [newId('dlv', past.now()), organization, owing, new Date(past.now())],
  )
  expect((await markOlderThan(30)).count).toBe(0)
  await room.database.query('delete from delivery')
  expect((await markOlderThan(30)).count).toBe(1)
  await purgeAll()
})

test('a purge that was cut off in the middle goes on where it was', async () => {
  const old = await finishedRuns(20, 50)
  expect((await markOlderThan(30)).count).toBe(20)
  expect(await purgePortion(room.database)).toBe(true)
  // From here a new process.
  expect(await isPurged(room.database, old[19] ?? 'run_')).toBe(true)
  await purgeAll()
  expect(await rowsOf('run_event', old)).toBe(0)
})

test('runs are claimed and finish while hundreds are purged', async () => {
  const old = await finishedRuns(500, 60)
  const durations: number[] = []
  let portions = 0
  const purge = (async () => {
    while ((await markOlderThan(30)).count > 0) {
      for (;;) {
        const startedAt = performance.now()
        if (!(await purgePortion(room.database))) break
        durations.push(performance.now() - startedAt)
        portions += 1
      }
    }
  })()
  await using worker = await room.engine({ performer: threeSteps })
  let isPurging = true
  void purge.finally(() => {
    isPurging = false
  })
  const waits: number[] = []
  do {
    const facts = factsOf(organization)
    const startedAt = performance.now()
    await worker.create(facts)
    await worker.finished(facts.id)
    waits.push(performance.now() - startedAt)
  } while (isPurging)
  await purge
  expect(await rowsOf('run_event', old)).toBe(0)
  expect(portions).toBeGreaterThan(3)
  expect(waits.length).toBeGreaterThan(1)
  // No run waited for the purge as a whole, but at most for a portion of it and its own commits.
  expect(Math.max(...waits)).toBeLessThan(durations.reduce((sum, ms) => sum + ms, 0))
  expect(worker.complaints).toEqual([])
})

test('a blob that nothing names goes after an hour; one that is named, or was just stored again, stays', async () => {
  const { database } = room
  const [run = 'run_'] = await finishedRuns(1, 1)
  const hourAgo = new Date(Date.now() - 2 * 3_600_000)
  const put = (text: string, at = hourAgo) => putBlob(database, text, { mediaType: 'text/plain', at })
  const [unnamed, named, again, fresh, bundle] = await Promise.all([
    put('unnamed'),
    put('named'),
    put('again'),
    put('fresh', new Date()),
    put('bundle'),
  ])
  await database.query(
    `insert into artifact (run_id, name, hash, bytes, media_type, created_at) values ($1, 'a', $2, 5, 'text/plain', $3)`,
    [run, named.hash, hourAgo],
  )
  await put('again', new Date())
  const before = new Date(Date.now() - 3_600_000)
  const swept = await sweepBlobs(database, { after: '', before, inUse: [bundle.hash] })
  expect(swept.count).toBe(1)
  expect(await findBlob(database, unnamed.hash)).toBeUndefined()
  for (const { hash } of [named, again, fresh, bundle]) expect(await findBlob(database, hash)).toBeDefined()
  expect(await sweepBlobs(database, { after: swept.next ?? '', before, inUse: [] })).toEqual({
    count: 0,
    next: null,
  })
})

test('a large blob goes in a portion of its own', async () => {
  const { database } = room
  const at = new Date(Date.now() - 2 * 3_600_000)
  await putBlob(database, Buffer.alloc(3 * 2 ** 20, 1), { mediaType: 'a/b', at })
  await database.query('update blob set bytes = 200000000 where bytes > 1000000')
  let portions = 0
  for (let after: string | null = ''; after !== null; portions++) {
    const before = new Date(Date.now() - 3_600_000)
    after = (await sweepBlobs(database, { after, before, inUse: [] })).next
  }
  expect(portions).toBeGreaterThan(2)
  expect(await database.query('select from blob where bytes > 1000000')).toEqual([])
})

test('the months of the log are made ahead, and those that a purge emptied go', async () => {
  const { database } = room
  const at = Date.UTC(2031, 10, 15)
  expect(await makeMonthsAhead(database, at)).toEqual(['2031-11', '2031-12', '2032-01'])
  expect(await makeMonthsAhead(database, at)).toEqual([])
  const facts = factsOf(organization, birthAt(at))
  await using engine = await room.engine({ clock: { ...systemClock, now: () => at }, slots: 0 })
  await engine.create(facts)
  const [place] = await database.query(
    'select tableoid::regclass::text as partition from run_event where run_id = $1',
    [facts.id],
  )
  expect(place).toEqual({ partition: 'run_event_2031_11' })
  expect(await dropEmptyMonths(database, '2032-01')).toEqual(['2031-12'])
  expect(await listMonths(database)).toEqual(['2031-11', '2032-01'])
})

test('a month of which the default partition has rows stays in the default partition', async () => {
  const { database } = room
  const at = Date.UTC(2035, 4, 2)
  await using engine = await room.engine({ clock: { ...systemClock, now: () => at }, slots: 0 })
  await engine.create(factsOf(organization, birthAt(at)))
  expect(await makeMonthsAhead(database, at)).toEqual(['2035-06', '2035-07'])
})

test('a month is not waited for: a lock that is held is asked for again later', async () => {
  const { database } = room
  await using reader = await database.connect()
  await reader.query('begin')
  await reader.query('select from run_event limit 1')
  const at = Date.UTC(2040, 1, 2)
  const startedAt = performance.now()
  expect(await makeMonthsAhead(database, at)).toEqual([])
  expect(performance.now() - startedAt).toBeLessThan(5_000)
  await reader.query('rollback')
  expect(await makeMonthsAhead(database, at)).toEqual(['2040-02', '2040-03', '2040-04'])
})

test('answers and deliveries go after thirty days; a delivery that is still due stays', async () => {
  const { database } = room
  const rows = (daysAgo: number) => new Date(Date.now() - daysAgo * DAY)
  for (const days of [31, 29]) {
    await database.query(
      `insert into idempotency_key (organization_id, mode, route, key, body_hash, subject_id, status, created_at)
        values ($1, 'live', 'POST /v1/runs', $2, 'h', 's', 201, $3)`,
      [organization, `k${days}`, rows(days)],
    )
    for (const outcome of ['delivered', null]) {
      await database.query(
        `insert into delivery (id, organization_id, mode, event_id, event_type, url, created_at, outcome, next_attempt_at)
          values ($1, $2, 'live', $3, 'run.completed', 'https://a.test', $4, $5, $6)`,
        [
          newId('dlv', rows(days).getTime()),
          organization,
          `${days} ${outcome}`,
          rows(days),
          outcome,
          outcome === null ? rows(days) : null,
        ],
      )
    }
  }
  const disk = new Disk({ folder: '/', minBytes: 0 })
  await using meters = new Meters(new Metrics(), disk)
  const log = { info: () => undefined, error: () => undefined }
  await using house = new Housekeeping({ database, clock: systemClock, disk, meters, retentionMs: null, log })
  while (await house.rounds.expiry.tick());
  const keys = await database.query<{ key: string }>('select key from idempotency_key order by key')
  expect(keys).toEqual([{ key: 'k29' }])
  const left = await database.query<{ name: string }>(
    'select event_id as name from delivery order by event_id',
  )
  expect(left.map(({ name }) => name)).toEqual(['29 delivered', '29 null', '31 null'])
})
