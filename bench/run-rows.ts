/** A run that a gateway really made, as it stands in the database: what others are copied from. */
import type { Db } from '../server/src/storage/database.ts'

export interface RunRows {
  run: {
    id: string
    organization_id: string
    mode: string
    tenant_id: string
    agent: string
    state: string
    status_reason: string
    fold: string
  }
  facts: string
  outcome: string
  packs: { first_seq: number; last_seq: number; events: string }[]
  steps: { n: number; part: string; kind: 'step' | 'tool' | 'feedback'; record: string }[]
  ledger: { kind: 'reserve' | 'release' | 'deduct'; micro: number }[]
}

export async function readRunRows(db: Db, id: string): Promise<RunRows> {
  const rows = async <Row extends object>(text: string): Promise<Row[]> => db.query<Row>(text, [id])
  const [run] = await rows<RunRows['run'] & { facts: string; outcome: string }>(
    `select id, organization_id, mode, tenant_id, agent, state, status_reason, fold, facts, outcome from run join run_body on run_body.run_id = id
      join run_outcome on run_outcome.run_id = id where id = $1`,
  )
  if (run === undefined) throw new Error(`There is no finished run ${id}.`)
  return {
    run,
    facts: run.facts,
    outcome: run.outcome,
    packs: await rows(
      'select first_seq, last_seq, events from run_event where run_id = $1 order by first_seq',
    ),
    steps: await rows('select n, part, kind, record from step where run_id = $1 order by n, part'),
    ledger: await rows('select kind, micro from ledger where run_id = $1 order by at, id'),
  }
}

/** Ids of copies sort before those that gateways make. */
const COPY_ID = `'run_00' || lpad(to_hex(n), 24, '0')`
const PORTION = 50_000

/**
 * Makes `count` copies of a run, each a second older than the one before, with all its rows in `run`, `run_body`,
 * `run_outcome` and `run_event`; ids within the texts are the copy's own. Then vacuums and analyses.
 */
export async function copyRun(
  db: Db,
  { id, count, signal }: { id: string; count: number; signal: AbortSignal },
): Promise<void> {
  await db.query('set synchronous_commit = off')
  for (let first = 1; first <= count; first += PORTION) {
    signal.throwIfAborted()
    const values = [id, first, Math.min(first + PORTION - 1, count)]
    for (const statement of COPIES) await db.query(statement, values)
  }
  for (const table of ['run', 'run_body', 'run_outcome', 'run_event', 'lane']) {
    await db.query(`vacuum analyze ${table}`)
  }
}

/** Whatever columns a table has, those named in `changes` (a JSON object's members, in SQL) are the copy's own. */
const copyOf = (table: string, key: string, changes: string): string => `
  insert into ${table} select copy.* from ${table} as t, generate_series($2::int, $3::int) as n,
    jsonb_populate_record(t, jsonb_build_object('${key}', ${COPY_ID}, ${changes})) as copy
  where t.${key} = $1`

const ownText = (column: string, key: string): string =>
  `'${column}', replace(${column}, t.${key}, ${COPY_ID})`

const COPIES = [
  copyOf('run', 'id', `'created_at', created_at - n * interval '1 second'`),
  copyOf('run_body', 'run_id', ownText('facts', 'run_id')),
  copyOf('run_outcome', 'run_id', ownText('outcome', 'run_id')),
  copyOf('run_event', 'run_id', `'xid', pg_current_xact_id()::text, ${ownText('events', 'run_id')}`),
]
