/**
 * What a database has done so far. Commits are transactions that wrote, counted by transaction ids: exact at once,
 * while `pg_stat_database` follows by seconds and counts reads too.
 */
import type { Db } from '../server/src/storage/database.ts'
import { rounded } from './load.ts'
import type { Row } from './suite.ts'

export interface DatabaseFigures {
  commits: number
  walBytes: number
  rows: number
  events: number
}

export async function readFigures(db: Db): Promise<DatabaseFigures> {
  const [counters] = await db.query<{ commits: number; wal: number }>(
    `select pg_snapshot_xmax(pg_current_snapshot())::text::int8 as commits,
      pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8 as wal`,
  )
  const tables = await db.query<{ name: string }>(
    "select relname as name from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace",
  )
  let rows = 0
  for (const { name } of tables) {
    const [count] = await db.query<{ rows: number }>(`select count(*) as rows from "${name}"`)
    rows += count?.rows ?? 0
  }
  const [log] = await db.query<{ events: number }>('select coalesce(sum(last_seq), 0) as events from run')
  return {
    commits: counters?.commits ?? 0,
    walBytes: counters?.wal ?? 0,
    rows,
    events: Number(log?.events ?? 0),
  }
}

export function figuresPerRun(before: DatabaseFigures, after: DatabaseFigures, runs: number): Row {
  const per = (key: keyof DatabaseFigures): number => rounded((after[key] - before[key]) / runs)
  return {
    commitsPerRun: per('commits'),
    rowsPerRun: per('rows'),
    eventsPerRun: per('events'),
    walBytesPerRun: per('walBytes'),
  }
}
