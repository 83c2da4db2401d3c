import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { RunId } from '../../src/domain/facts.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { newId } from '../../src/lib/id.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { type Hint, Wake } from '../../src/storage/wake.ts'
import { insertWorker } from '../../src/storage/workers.ts'
import { provideTestDatabase } from '../harness/postgres.ts'

let database: Database
const wakes: Wake[] = []
beforeAll(async () => {
  database = await openDatabase(await provideTestDatabase(), { maxReaders: 4, statementTimeoutMs: 0 })
})
afterEach(async () => {
  for (const wake of wakes.splice(0)) await wake[Symbol.asyncDispose]()
  await database.query('delete from worker')
})
afterAll(() => database.close())

interface Ear {
  wake: Wake
  heard: Hint[]
  /** Resolves with the first hint from now on that is about something. */
  next(): Promise<Hint>
}

async function open(): Promise<Ear> {
  const workerId = newId('wrk', Date.now())
  const times = { startedAt: new Date(), leaseUntil: new Date(Date.now() + 60_000) }
  await insertWorker(database, { id: workerId, bootId: 'boot', pid: 1, pidStarted: '0' }, times)
  const heard: Hint[] = []
  const waiting: ((hint: Hint) => void)[] = []
  const onHint = (hint: Hint): void => {
    heard.push(hint)
    for (const tell of waiting.splice(0)) tell(hint)
  }
  const log = { warn: () => undefined }
  const wake = await Wake.open({ database, clock: systemClock, workerId, onHint, log })
  wakes.push(wake)
  return { wake, heard, next: () => new Promise((resolve) => waiting.push(resolve)) }
}

const runId = (): RunId => newId('run', Date.now())

test('a new ear is told to look at everything once, for what it has missed', async () => {
  const { heard } = await open()
  expect(heard).toEqual([{ runs: 'all', isWork: true }])
})

test('a process that is alone gives no hints', async () => {
  const { wake } = await open()
  await using ear = await database.connect()
  const heard: string[] = []
  const marked = new Promise<void>((resolve) => {
    ear.onNotification((_, payload) => (payload === 'mark' ? resolve() : heard.push(payload)))
  })
  await ear.query('listen agentgate')
  for (let i = 0; i < 10; i++) wake.notify(runId(), true)
  // Closing waits for what is under way; what is notified later comes later.
  await wake[Symbol.asyncDispose]()
  await database.query("select pg_notify('agentgate', 'mark')")
  await marked
  expect(heard).toEqual([])
})

test('the others hear which runs moved and whether there is work, and the speaker does not', async () => {
  const [one, two] = [await open(), await open()]
  await one.wake.tick()
  const [quiet, queued] = [runId(), runId()]
  const next = two.next()
  one.wake.notify(quiet, false)
  one.wake.notify(queued, true)
  expect(await next).toEqual({ runs: [quiet, queued], isWork: true })
  expect(one.heard).toEqual([{ runs: 'all', isWork: true }])
})

test('many runs that move at once are told in few hints, each within the limit of a payload', async () => {
  const [one, two] = [await open(), await open()]
  await one.wake.tick()
  const ids = Array.from({ length: 1_000 }, runId)
  for (const id of ids) one.wake.notify(id, false)
  for (const id of ids) one.wake.notify(id, false)
  const told = () => new Set(two.heard.flatMap(({ runs }) => (runs === 'all' ? [] : runs)))
  while (told().size < ids.length) await two.next()
  expect(told()).toEqual(new Set(ids))
  expect(two.heard.length).toBeLessThanOrEqual(8)
})

test('a newcomer is spoken to at once, before the next count', async () => {
  const one = await open()
  const two = await open()
  // The hello of the second has reached the first when a hint of the first reaches the second.
  const next = two.next()
  const id = runId()
  const again = setInterval(() => one.wake.notify(id, false), 5)
  expect(await next).toEqual({ runs: [id], isWork: false })
  clearInterval(again)
})

test('an ear whose connection is lost listens again, and looks at everything', async () => {
  const [one, two] = [await open(), await open()]
  await one.wake.tick()
  const next = two.next()
  await database.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()
        and (query like 'listen%' or query like 'select pg_notify%')`,
  )
  expect(await next).toEqual({ runs: 'all', isWork: true })
  const id = runId()
  const again = setInterval(() => one.wake.notify(id, false), 5)
  let hint = await two.next()
  while (!hint.runs.includes(id as never)) hint = await two.next()
  clearInterval(again)
})

test('a stranger on the channel cannot make it do more than look', async () => {
  const { heard } = await open()
  const two = await open()
  await database.query(
    "select pg_notify('agentgate', 'x'), pg_notify('agentgate', 'wrk_x news run_x,,;drop')",
  )
  const next = two.next()
  await database.query("select pg_notify('agentgate', 'wrk_x work ')")
  expect(await next).toEqual({ runs: [], isWork: true })
  expect(heard.every(({ runs }) => runs === 'all' || runs.length === 0)).toBe(true)
})
