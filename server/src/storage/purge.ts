/**
 * Removes what is no longer kept: the log, journal and artifacts of finished runs after their time, old answers to
 * idempotency keys, old deliveries, and blobs that nothing names. Every portion is a short transaction of at most 500
 * rows that locks nothing a working run needs.
 *
 * A purged run keeps `run`, `run_body`, `run_outcome`, `work_order` and `ledger`: what was asked, how it ended, what
 * it cost.
 */
import type { RunId } from '../domain/facts.ts'
import { newId } from '../lib/id.ts'
import type { Db } from './database.ts'

const PORTION_ROWS = 500
/** Runs whose rows are removed together. */
const RUNS_AT_ONCE = 50
/** A delivery has at most a few attempts, which go with it. */
const DELIVERIES_AT_ONCE = 50

/** The beginning of every id of that moment: it sorts before them and after all earlier ones. */
const idFloor = (kind: string, at: Date): string => newId(kind, at.getTime()).slice(0, kind.length + 11)

export interface Marked {
  count: number
  /** Where to look on; `null` when all candidates have been looked at. */
  next: string | null
}

/**
 * Marks runs that finished before `before` and owe nobody a delivery any more, looking at up to 500 runs behind
 * `after`. From here on their events are gone (`isPurged`).
 */
export async function markPurgeable(
  db: Db,
  { after, before, at }: { after: string; before: Date; at: Date },
): Promise<Marked> {
  const [row] = await db.query<{ count: number; seen: number; last: string | null }>(
    `with seen as materialized (
       select run_id from run_event where run_id > $1 and run_id < $2 and first_seq = 1
       order by run_id limit ${PORTION_ROWS}
     ),
     marked as (
       insert into purged_run (run_id, at)
       select run.id, $4 from seen join run on run.id = seen.run_id
       where run.state in ('completed', 'failed', 'canceled')
         and exists (select from run_event where run_event.run_id = run.id
           and run_event.last_seq = run.last_seq and run_event.at < $3)
         and not exists (select from delivery where delivery.run_id = run.id and delivery.outcome is null)
       on conflict do nothing returning run_id
     )
     select (select count(*) from marked)::int as count, count(*)::int as seen, max(run_id) as last from seen`,
    [after, idFloor('run', before), before, at],
  )
  const isMore = row !== undefined && row.seen === PORTION_ROWS
  return { count: row?.count ?? 0, next: isMore ? row.last : null }
}

/** Removes one portion of what marked runs still have; false when there was nothing to remove. */
export async function purgePortion(db: Db): Promise<boolean> {
  const runs = await db.query<{ id: string }>(
    `select run_id as id from purged_run where not is_done order by run_id limit ${RUNS_AT_ONCE}`,
  )
  if (runs.length === 0) return false
  const ids = [runs.map(({ id }) => id)]
  for (const [table, key] of Object.entries(TABLES)) {
    const gone = await db.query(
      `delete from ${table} where (${key}) in
         (select ${key} from ${table} where run_id = any($1) limit ${PORTION_ROWS}) returning 1 as gone`,
      ids,
    )
    if (gone.length > 0) return true
  }
  await db.query('update purged_run set is_done = true where run_id = any($1)', ids)
  return true
}

/** What goes, with its key. */
const TABLES = {
  run_event: 'run_id, first_seq, at',
  step: 'run_id, n, part',
  artifact: 'run_id, name',
} as const

/** Whether the events of a run are no longer kept. */
export async function isPurged(db: Db, id: RunId): Promise<boolean> {
  const rows = await db.query(
    { name: 'is_purged', text: 'select 1 as purged from purged_run where run_id = $1' },
    [id],
  )
  return rows.length > 0
}

/** One portion of answers given before `before`; true while there may be more. */
export async function deleteOldAnswers(db: Db, before: Date): Promise<boolean> {
  const gone = await db.query(
    `delete from idempotency_key where ctid in
       (select ctid from idempotency_key where created_at < $1 order by created_at limit ${PORTION_ROWS})
     and created_at < $1 returning 1 as gone`,
    [before],
  )
  return gone.length === PORTION_ROWS
}

/** One portion of deliveries that were made before `before` and have ended; true while there may be more. */
export async function deleteOldDeliveries(db: Db, before: Date): Promise<boolean> {
  const gone = await db.query(
    `delete from delivery where id in
       (select id from delivery where id < $1 and outcome is not null order by id limit ${DELIVERIES_AT_ONCE})
     returning 1 as gone`,
    [idFloor('dlv', before)],
  )
  return gone.length === DELIVERIES_AT_ONCE
}

/** Bundles that open runs would be resumed from; they stand in no other column than the fold. */
export async function listBundlesInUse(db: Db): Promise<string[]> {
  const rows = await db.query<{ hash: string | null }>(
    `select fold::json #>> '{sealed,bundle}' as hash from run
      where work_order_id is not null and state in ('queued', 'running', 'tool_required', 'waiting_approval')`,
  )
  return rows.flatMap(({ hash }) => (hash === null ? [] : [hash]))
}

export interface Swept {
  count: number
  /** Where to look on; `null` after the last blob. */
  next: string | null
}

/**
 * Removes blobs behind `after` that nothing names and nobody stored again since `before`: a portion of at most 500
 * chunks, or one blob. Whoever is about to name a blob has just stored it, which moves its time.
 */
export async function sweepBlobs(
  db: Db,
  { after, before, inUse }: { after: string; before: Date; inUse: readonly string[] },
): Promise<Swept> {
  const [row] = await db.query<{ count: number; last: string | null }>(
    `with page as materialized (
       select hash, created_at from (
         select hash, created_at, row_number() over (order by hash) as n,
           sum(greatest(1, ceil(bytes / 262144.0))) over (order by hash) as chunks
         from (select * from blob where hash > $1 order by hash limit ${PORTION_ROWS}) as blobs
       ) as counted
       where n = 1 or chunks <= ${PORTION_ROWS}
     ),
     gone as (
       delete from blob where created_at < $2 and hash in (
         select hash from page where created_at < $2 and hash <> all ($3)
           and not exists (select from artifact where artifact.hash = page.hash)
           and not exists (select from run_event where run_event.blob_hash = page.hash)
       ) returning 1
     )
     select (select count(*) from gone)::int as count, max(hash) as last from page`,
    [after, before, inUse],
  )
  return { count: row?.count ?? 0, next: row?.last ?? null }
}
