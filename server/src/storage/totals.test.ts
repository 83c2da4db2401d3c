import { afterAll, beforeAll, expect, test } from 'vitest'
import { manualClock } from '../../test/harness/manual-clock.ts'
import { provideTestDatabase } from '../../test/harness/postgres.ts'
import type { RunState } from '../domain/lifecycle.ts'
import { type Database, openDatabase } from './database.ts'
import { listRuns, type RunFilter } from './run-lists.ts'
import { COUNT_CAP, Totals } from './totals.ts'
import { Where } from './where.ts'

let database: Database
beforeAll(async () => {
  database = await openDatabase(await provideTestDatabase(), { maxReaders: 2, statementTimeoutMs: 0 })
})
afterAll(() => database.close())

/** A list of so many rows, and how often it was counted. */
function listOf(length: number) {
  const clock = manualClock()
  const totals = new Totals(clock)
  const list = { length, counted: 0, clock }
  const counting: Pick<Database, 'query'> = {
    query: (statement, values) => {
      list.counted++
      return database.query(statement, values)
    },
  }
  const count = (): Promise<number> =>
    totals.count(counting, 'generate_series(1, 20000) as n', new Where().and('n <= ?', list.length))
  return { list, count }
}

test('a list that is too long to be counted is not counted again for half a minute', async () => {
  const { list, count } = listOf(COUNT_CAP + 1)
  expect([await count(), await count()]).toEqual([COUNT_CAP + 1, COUNT_CAP + 1])
  expect(list.counted).toBe(1)
  list.clock.advance(30_000)
  expect(await count()).toBe(COUNT_CAP + 1)
  expect(list.counted).toBe(2)
})

test('a list that can be counted always is, and so is another list beside a long one', async () => {
  const { list, count } = listOf(COUNT_CAP)
  expect([await count(), await count()]).toEqual([COUNT_CAP, COUNT_CAP])
  list.length = COUNT_CAP + 1
  expect(await count()).toBe(COUNT_CAP + 1)
  list.length = 7
  expect([await count(), await count()]).toEqual([7, 7])
  expect(list.counted).toBe(5)
})

test('what is remembered of runs is never of a list that runs leave', async () => {
  const totals = new Totals(manualClock())
  const organizationId = 'org_long'
  await database.query(
    `insert into run (id, organization_id, mode, tenant_id, agent, state, status_reason, last_seq, commit_id, created_at, fold)
      select 'run_' || n, $1, 'live', '', 'scripted', 'queued', 'waiting_for_capacity', 1, 0, $3, '{}'
      from generate_series(1, $2::int) as n`,
    [organizationId, COUNT_CAP + 5, new Date()],
  )
  const totalOf = async (filter: RunFilter): Promise<number | null> => {
    const owner = { organizationId, mode: 'live', tenantId: null } as const
    const page = await listRuns(database, { owner, filter, totals }, { limit: 1, offset: 0, after: null })
    return page.total
  }
  const queued: RunFilter[] = [{ states: ['queued'] }, { statusReason: 'waiting_for_capacity' }]
  const none: readonly RunState[] = ['completed']
  for (const filter of [{}, ...queued]) expect(await totalOf(filter)).toBe(COUNT_CAP + 1)
  expect(await totalOf({ states: none })).toBe(0)
  await database.query("update run set state = 'completed', status_reason = 'completed'")
  expect(await totalOf({})).toBe(COUNT_CAP + 1)
  for (const filter of queued) expect(await totalOf(filter)).toBe(0)
  expect(await totalOf({ states: none, statusReason: 'completed' })).toBe(COUNT_CAP + 1)
})
