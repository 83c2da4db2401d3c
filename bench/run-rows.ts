/** A run that a gateway really made, as it stands in the database: what others are copied from. */
import { statfs } from 'node:fs/promises'
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
const BYTES_PER_COPY = 5_000

/** The tables that a copied run has rows in, and what of them is the copy's own. */
const COPIED: Readonly<Record<string, { key: string; changes: Readonly<Record<string, string>> }>> = {
  run: { key: 'id', changes: { created_at: `created_at - n * interval '1 second'` } },
  run_body: { key: 'run_id', changes: { facts: `replace(facts, run_id, ${COPY_ID})` } },
  run_outcome: { key: 'run_id', changes: {} },
  run_event: {
    key: 'run_id',
    changes: {
      xid: 'pg_current_xact_id()',
      events: `replace(split_part(events, chr(10), 1), run_id, ${COPY_ID})`,
    },
  },
}

/**
 * Makes `count` copies of a run, each a second older than the one before, in `run`, `run_body`, `run_outcome` and
 * `run_event`; then vacuums and analyses. Of the events of each decision only the first is copied, so that many
 * millions fit on a disk: nothing that is measured reads them.
 */
export async function copyRun(
  db: Db,
  { id, count, signal }: { id: string; count: number; signal: AbortSignal },
): Promise<void> {
  await refuseFullDisk(count)
  const statements: string[] = []
  for (const table of Object.keys(COPIED)) statements.push(await copyStatement(db, table))
  await db.query('set synchronous_commit = off')
  for (let first = 1; first <= count; first += PORTION) {
    signal.throwIfAborted()
    const values = [id, first, Math.min(first + PORTION - 1, count)]
    for (const statement of statements) await db.query(statement, values)
  }
  for (const table of [...Object.keys(COPIED), 'lane']) await db.query(`vacuum analyze ${table}`)
}

/** All columns, whatever they are; the key and what changes are the copy's own. */
async function copyStatement(db: Db, table: string): Promise<string> {
  const { key, changes } = COPIED[table] ?? { key: 'id', changes: {} }
  const columns = await db.query<{ name: string }>(
    `select column_name as name from information_schema.columns
      where table_schema = 'public' and table_name = $1 order by ordinal_position`,
    [table],
  )
  const own: Record<string, string> = { ...changes, [key]: COPY_ID }
  return `insert into ${table} (${columns.map(({ name }) => name).join(', ')})
    select ${columns.map(({ name }) => own[name] ?? name).join(', ')}
    from (select * from ${table} where ${key} = $1) as original, generate_series($2::int, $3::int) as n`
}

async function refuseFullDisk(count: number): Promise<void> {
  const { bavail, bsize } = await statfs('/var/tmp')
  if (bavail * bsize < count * BYTES_PER_COPY) {
    throw new Error(`${count} copies of a run do not fit on the disk of /var/tmp.`)
  }
}
