import { afterAll, beforeAll, expect, test } from 'vitest'
import { manualClock } from '../../test/harness/manual-clock.ts'
import { provideTestDatabase } from '../../test/harness/postgres.ts'
import { type Database, openDatabase } from './database.ts'
import { listRuns } from './run-lists.ts'
import { Totals } from './totals.ts'

let database: Database
beforeAll(async () => {
  database = await openDatabase(await provideTestDatabase(), { maxReaders: 2, statementTimeoutMs: 0 })
})
afterAll(() => database.close())

test('the list of a small tenant reads nothing of a large one, also before the database has counted them', async () => {
  const organizationId = 'org_full'
  await database.query(
    `insert into run (id, organization_id, mode, tenant_id, agent, state, status_reason, last_seq, commit_id, created_at, fold)
      select 'run_' || n, $1, 'live', case when n % 4000 = 0 then 'small' else 'large' end, 'scripted', 'queued',
        'waiting_for_capacity', 1, 0, $2::timestamptz + n * interval '1 ms', '{}'
      from generate_series(1, 20000) as n`,
    [organizationId, new Date()],
  )
  const owner = { organizationId, mode: 'live', tenantId: 'small' } as const
  const totals = new Totals(manualClock())
  const [total, read] = await database.inTransaction(async (tx) => {
    const page = await listRuns(tx, { owner, filter: {}, totals }, { limit: 20, offset: 0, after: null })
    const rows = await tx.query<{ rows: number }>(
      "select (seq_tup_read + idx_tup_fetch)::int as rows from pg_stat_xact_user_tables where relname = 'run'",
    )
    return [page.total, rows[0]?.rows]
  })
  expect(total).toBe(5)
  expect(read).toBeLessThan(100)
})
