import { afterAll, expect, test } from 'vitest'
import { startPooler } from '../../test/harness/pooler.ts'
import { provideTestDatabase } from '../../test/harness/postgres.ts'
import type { Clock } from '../lib/clock.ts'
import { openConnection, openDatabase } from './database.ts'
import { databaseClock } from './database-clock.ts'
import { DatabaseError } from './database-error.ts'

const url = await provideTestDatabase()
const database = await openDatabase(url, { maxReaders: 4, statementTimeoutMs: 500 })
await database.query('create table thing (id int primary key deferrable initially deferred)')
afterAll(() => database.close())

const thrownBy = async (work: Promise<unknown>): Promise<DatabaseError> => {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof DatabaseError)) throw new Error('it did not throw a DatabaseError', { cause: error })
  return error
}

test('values arrive in their types, whole numbers as numbers while they are exact', async () => {
  const [row] = await database.query(`
    select 7::int8 as small, 9007199254740993::int8 as large, array[1, null, 3]::int8[] as list,
      '2026-11-20 10:00:00.123+02'::timestamptz as at, 1.50::numeric as money, '\\x00ff'::bytea as bytes`)

  expect(row).toEqual({
    small: 7,
    large: 9007199254740993n,
    list: [1, null, 3],
    at: new Date('2026-11-20T08:00:00.123Z'),
    money: '1.50',
    bytes: Buffer.from([0, 255]),
  })
})

test('a transaction commits when its work fulfils and leaves nothing when it rejects', async () => {
  await database.inTransaction((tx) => tx.query('insert into thing values (1)'))
  const failure = new Error('changed my mind')

  await expect(
    database.inTransaction(async (tx) => {
      await tx.query('insert into thing values (2)')
      throw failure
    }),
  ).rejects.toBe(failure)

  expect(await database.query('select id from thing where id in (1, 2)')).toEqual([{ id: 1 }])
})

test('a transaction whose failed statement was overlooked is not taken for committed', async () => {
  const error = await thrownBy(
    database.inTransaction(async (tx) => {
      await tx.query('insert into thing values (3)')
      await tx.query('select 1 / 0').catch(() => 'overlooked')
    }),
  )

  expect(error.message).toContain('rolled back')
  expect(await database.query('select id from thing where id = 3')).toEqual([])
})

test('a commit that is refused rejects, and its connection is used again', async () => {
  const error = await thrownBy(database.inTransaction((tx) => tx.query('insert into thing values (4), (4)')))

  expect(error).toMatchObject({ sqlState: '23505', constraint: 'thing_pkey', isTransient: false })
  expect(await database.query('select id from thing where id = 4')).toEqual([])
})

test('an SQL error is wrapped once, with its state; a slow statement of the pool is ended', async () => {
  const divided = await thrownBy(database.query('select 1 / $1::int', [0]))
  const slow = await thrownBy(database.query('select pg_sleep(10)'))

  expect(divided).toMatchObject({ sqlState: '22012', isTransient: false, isConnectionLost: false })
  expect(divided.cause).not.toBeInstanceOf(DatabaseError)
  expect(slow).toMatchObject({ sqlState: '57014', isTransient: false })
})

test('locks and races are worth another try', async () => {
  await using first = await database.connect()
  await using second = await database.connect({ lock_timeout: '10ms' })
  await first.query('select pg_advisory_lock(1)')

  const locked = await thrownBy(second.query('select pg_advisory_lock(1)'))

  expect(locked).toMatchObject({ sqlState: '55P03', isTransient: true, isConnectionLost: false })
})

test('a connection has the settings that were asked for, and prepares a named statement once', async () => {
  await using connection = await database.connect({ enable_seqscan: 'off' })
  const statement = { name: 'twice', text: 'select $1::int * 2 as doubled' }

  const results = [await connection.query(statement, [4]), await connection.query(statement, [5])]

  expect(results).toEqual([[{ doubled: 8 }], [{ doubled: 10 }]])
  expect(await connection.query('show enable_seqscan')).toEqual([{ enable_seqscan: 'off' }])
  expect(await connection.query("select name from pg_prepared_statements where name = 'twice'")).toHaveLength(
    1,
  )
})

test('a listener hears what is notified', async () => {
  await using connection = await database.connect()
  const heard = new Promise((resolve) =>
    connection.onNotification((channel, payload) => resolve([channel, payload])),
  )
  await connection.query('listen news')

  await database.query("select pg_notify('news', 'hello')")

  expect(await heard).toEqual(['news', 'hello'])
})

test('a lost connection says so to its owner and to whoever asks it; one that was closed says nothing', async () => {
  const connection = await database.connect()
  const closed = await database.connect()
  closed.onEnd(() => expect.unreachable('it was closed, not lost'))
  const end = new Promise<DatabaseError>((resolve) => connection.onEnd(resolve))

  await database.query('select pg_terminate_backend($1)', [connection.backendPid])
  await closed.close()

  expect(await end).toMatchObject({ isConnectionLost: true, isTransient: true })
  expect(await thrownBy(connection.query('select 1'))).toMatchObject({ isConnectionLost: true })
})

test('the pool goes on after its connections were ended, in a transaction too', async () => {
  const error = await thrownBy(
    database.inTransaction(async (tx) => {
      await using other = await openConnection(url)
      await other.query(
        'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
      )
      await tx.query('select 1')
    }),
  )

  expect(error.isConnectionLost).toBe(true)
  expect(await database.query('select 1 as one')).toEqual([{ one: 1 }])
})

test('a server that is not there is a lost connection', async () => {
  const error = await thrownBy(
    openDatabase('postgresql://nobody@127.0.0.1:1/nothing', { maxReaders: 1, statementTimeoutMs: 0 }),
  )

  expect(error).toMatchObject({ isConnectionLost: true, isTransient: true, sqlState: undefined })
})

test('a transaction pooler is refused, with the way out', async () => {
  await using pooler = await startPooler(url)

  await expect(openDatabase(pooler.url, { maxReaders: 1, statementTimeoutMs: 0 })).rejects.toMatchObject({
    code: 'INVALID_VALUE',
    message: expect.stringContaining('transaction pooler'),
    hint: expect.stringContaining('session'),
  })
})

test('time is the database’s, moves with the monotonic clock, and runs backwards only when it was set', async () => {
  const local: Clock & { ms: number } = {
    ms: 0,
    now: () => expect.unreachable('the local clock does not count'),
    monotonic: () => local.ms,
    after: () => () => undefined,
  }
  let databaseMs = 1_800_000_000_000
  const db = { query: async <Row extends object>() => [{ ms: databaseMs }] as unknown as Row[] }
  const clock = await databaseClock(db, local)

  expect(clock.now()).toBe(1_800_000_000_000)
  local.ms += 250
  expect(clock.now()).toBe(1_800_000_000_250)

  databaseMs = 1_800_000_000_200
  expect(await clock.tick()).toBe(false)
  expect(clock.now()).toBe(1_800_000_000_250)

  databaseMs = 1_700_000_000_000
  expect(await clock.tick()).toBe(true)
  expect(clock.now()).toBe(1_700_000_000_000)
})

test('the sampled clock is close to the database’s', async () => {
  const clock = await databaseClock(database)
  const [row] = await database.query<{ ms: number }>(
    'select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms',
  )

  expect(Math.abs(clock.now() - (row?.ms ?? 0))).toBeLessThan(250)
})
