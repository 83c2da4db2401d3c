/**
 * Looks at a live database for what must never be: a broken log (invariant 2), money that does not add up (6), a
 * final run that went on (8), an announcement nobody owes (10), and a run that is not what its events make of it, or
 * is counted wrongly in a lane or a cap (1). Reads only; each portion in one snapshot, so that work may go on.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Envelope } from '../domain/event.ts'
import type { RunFacts } from '../domain/facts.ts'
import { isFinal } from '../domain/lifecycle.ts'
import { lateMicro } from '../domain/money.ts'
import { eventOf } from '../domain/refold.ts'
import { apply, costSoFar, type Run, unborn } from '../domain/run.ts'
import { getBlob } from './blobs.ts'
import type { Transactor, Tx } from './database.ts'
import { type RunRow, runFromRow } from './runs.ts'
import { type Finding, verifyEntries, verifyMoney, verifyQueue } from './verify-totals.ts'

export type { Finding }

const RUNS_PER_PORTION = 200
const PACKS_PER_PAGE = 500

/** Every finding, as it is found. Memory stays bounded whatever the size of the database. */
export async function* verifyDatabase(db: Transactor): AsyncGenerator<Finding> {
  yield* await verifyMoney(db)
  yield* await verifyEntries(db)
  yield* await verifyQueue(db)
  for (let after: string | null = ''; after !== null; ) {
    const from: string = after
    const portion: Portion = await db.inTransaction(async (tx) => {
      await tx.query('set transaction isolation level repeatable read, read only')
      return verifyPortion(tx, from)
    })
    yield* portion.findings
    after = portion.last
  }
}

interface Portion {
  findings: Finding[]
  /** The id to go on behind; `null` at the end. */
  last: string | null
}

type CheckedRow = Omit<RunRow, 'facts'> & {
  facts: string | null
  claim: string | null
  worker_id: string | null
  has_due: boolean
  /** Its log is no longer kept: what follows from it cannot be looked at. */
  is_purged: boolean
}

/** What the log and the other tables say of one run. */
interface Account {
  row: CheckedRow
  facts: RunFacts
  folded: Run
  /** False once the log has a hole: what follows from it would only be noise. */
  isWhole: boolean
  announced: { seq: number; id: string }[]
}

interface Owed {
  run_id: string
  kind: string
  micro: number
}

interface Announcement {
  id: string
  run_id: string
  event_id: string
  seq: number | null
  url: string
}

class Examination {
  readonly findings: Finding[] = []
  readonly accounts = new Map<string, Account>()

  report(invariant: Finding['invariant'], subject: string, sentence: string): void {
    this.findings.push({ invariant, subject, sentence })
  }

  open(row: CheckedRow): void {
    if (row.facts === null) {
      this.report(1, row.id, 'The run has no body.')
      return
    }
    const facts: RunFacts = JSON.parse(row.facts)
    this.accounts.set(row.id, { row, facts, folded: unborn(facts), isWhole: !row.is_purged, announced: [] })
  }
}

/** The runs behind `after`, and every row of theirs in other tables. */
async function verifyPortion(tx: Tx, after: string): Promise<Portion> {
  const rows = await listRuns(tx, after)
  const last = rows.length < RUNS_PER_PORTION ? null : (rows.at(-1)?.id ?? null)
  const range = [after, last]
  const examination = new Examination()
  for (const row of rows) examination.open(row)
  await readLog(tx, range, examination)
  for (const account of examination.accounts.values()) {
    if (account.isWhole) checkRun(account, examination)
  }
  await checkLedger(tx, range, examination)
  await checkDeliveries(tx, range, examination)
  return { findings: examination.findings, last }
}

const listRuns = (tx: Tx, after: string): Promise<CheckedRow[]> =>
  tx.query<CheckedRow>(
    `select run.id, run.state, run.status_reason, run.last_seq, run.fold, run.claim, run.worker_id,
       run.due_at is not null as has_due, run_body.facts, run_outcome.outcome,
       exists (select from purged_run where purged_run.run_id = run.id) as is_purged
     from run left join run_body on run_body.run_id = run.id left join run_outcome on run_outcome.run_id = run.id
     where run.id > $1 order by run.id limit ${RUNS_PER_PORTION}`,
    [after],
  )

interface PackRow {
  run_id: string
  first_seq: number
  last_seq: number
  events: string | null
  blob_hash: string | null
}

async function readLog(tx: Tx, range: unknown[], examination: Examination): Promise<void> {
  for (let place: [string, number] = ['', 0]; ; ) {
    const packs = await tx.query<PackRow>(
      `select run_id, first_seq, last_seq, events, blob_hash from run_event
       where run_id > $1 and ($2::text is null or run_id <= $2) and (run_id, first_seq) > ($3, $4::int)
       order by run_id, first_seq limit ${PACKS_PER_PAGE}`,
      [...range, ...place],
    )
    for (const pack of packs) await readPack(tx, pack, examination)
    const last = packs.at(-1)
    if (last === undefined || packs.length < PACKS_PER_PAGE) return
    place = [last.run_id, last.first_seq]
  }
}

async function readPack(tx: Tx, pack: PackRow, examination: Examination): Promise<void> {
  const { run_id: id, first_seq: first, last_seq: last } = pack
  const account = examination.accounts.get(id)
  if (account === undefined) {
    examination.report(2, id, `Events ${first} to ${last} belong to no run.`)
    return
  }
  if (!account.isWhole) return
  const fail = (sentence: string): void => {
    account.isWhole = false
    examination.report(2, id, sentence)
  }
  const before = account.folded
  if (first !== before.lastSeq + 1) return fail(`Event ${before.lastSeq} is followed by event ${first}.`)
  if (isFinal(before.state))
    examination.report(8, id, `Event ${first} came after the run was ${before.state}.`)
  const envelopes = await unpack(tx, pack)
  if (envelopes === null) return fail(`Events ${first} to ${last} cannot be read.`)
  const seqs = envelopes.map(({ seq }) => seq)
  if (seqs.length !== last - first + 1 || seqs.some((seq, i) => seq !== first + i)) {
    return fail(`The row of events ${first} to ${last} holds ${seqs.join(', ') || 'none'}.`)
  }
  for (const envelope of envelopes) {
    account.folded = apply(account.folded, eventOf(envelope))
    if (envelope.type.startsWith('run.')) account.announced.push({ seq: envelope.seq, id: envelope.id })
  }
}

async function unpack(tx: Tx, { events, blob_hash: hash }: PackRow): Promise<Envelope[] | null> {
  try {
    const text = events ?? (hash === null ? '' : (await getBlob(tx, hash)).toString('utf8'))
    return text.split('\n').map((line): Envelope => JSON.parse(line))
  } catch {
    return null
  }
}

function checkRun({ row, facts, folded }: Account, examination: Examination): void {
  const { id, last_seq: lastSeq, state } = row
  if (folded.lastSeq !== lastSeq) {
    examination.report(2, id, `The run stands at event ${lastSeq}, its log at ${folded.lastSeq}.`)
    return
  }
  const stored = runFromRow({ ...row, facts: JSON.stringify(facts) })
  for (const difference of differences(stored, folded)) {
    examination.report(1, id, `Its ${difference} is not what its events make of it.`)
  }
  if (!isFinal(state)) {
    if (row.outcome !== null) examination.report(8, id, `The run has an outcome and is ${state}.`)
    return
  }
  if (row.claim !== null || row.worker_id !== null || row.has_due) {
    examination.report(8, id, `The run is ${state} and still held or due.`)
  }
  if (stored.heldMicro !== 0) examination.report(6, id, `The run is ${state} and holds ${stored.heldMicro}.`)
}

function differences(stored: Run, folded: Run): string[] {
  const one = Object.entries(stored)
  const other: Record<string, unknown> = { ...folded }
  return one.filter(([key, value]) => !isDeepStrictEqual(value, other[key])).map(([key]) => key)
}

/** What the ledger says of a run is what the run says of itself. */
async function checkLedger(tx: Tx, range: unknown[], examination: Examination): Promise<void> {
  const entries = await tx.query<Owed>(
    `select run_id, kind, sum(micro)::bigint as micro from ledger
     where run_id > $1 and ($2::text is null or run_id <= $2) group by run_id, kind`,
    range,
  )
  const costs = await tx.query<{ run_id: string; micro: number }>(
    `select run_id, sum(cost_micro)::bigint as micro from late_usage
     where run_id > $1 and ($2::text is null or run_id <= $2) and entry_id is not null group by run_id`,
    range,
  )
  const lateCosts = new Map(costs.map(({ run_id: id, micro }) => [id, micro]))
  const sums = new Map<string, Record<string, number>>()
  for (const { run_id: id, kind, micro } of entries) sums.set(id, { ...sums.get(id), [kind]: micro })
  for (const id of sums.keys()) {
    if (!examination.accounts.has(id))
      examination.report(6, id, 'The ledger knows a run that does not exist.')
  }
  for (const [id, { folded, isWhole }] of examination.accounts) {
    if (!isWhole) continue
    const { reserve = 0, release = 0, deduct = 0, late = 0 } = sums.get(id) ?? {}
    const held = reserve - release - deduct
    if (held !== folded.heldMicro) {
      examination.report(6, id, `The ledger holds ${held} for the run, which holds ${folded.heldMicro}.`)
    }
    if (deduct !== folded.chargedMicro) {
      examination.report(6, id, `The ledger charged ${deduct}, the run was charged ${folded.chargedMicro}.`)
    }
    const latest = isFinal(folded.state) ? lateMicro(costSoFar(folded, 0), lateCosts.get(id) ?? 0) : 0
    if (late > latest) {
      examination.report(6, id, `The ledger charged ${late} for late usage, which comes to ${latest}.`)
    }
  }
}

/** Each event that a receiver is to hear of is owed to it once. */
async function checkDeliveries(tx: Tx, range: unknown[], examination: Examination): Promise<void> {
  const rows = await tx.query<Announcement>(
    `select id, run_id, event_id, seq, url from delivery
     where run_id > $1 and ($2::text is null or run_id <= $2)`,
    range,
  )
  const owed = new Map<string, Announcement[]>()
  for (const row of rows) owed.set(row.run_id, [...(owed.get(row.run_id) ?? []), row])
  for (const [id, { facts, announced, isWhole }] of examination.accounts) {
    const deliveries = owed.get(id) ?? []
    owed.delete(id)
    if (isWhole) checkOwed({ id, url: facts.webhookUrl, announced, deliveries }, examination)
  }
  for (const row of [...owed.values()].flat()) {
    examination.report(10, row.id, `The delivery is of ${row.run_id}, which does not exist.`)
  }
}

interface Owing {
  id: string
  url: string | null
  announced: Account['announced']
  deliveries: readonly Announcement[]
}

function checkOwed({ id, url, announced, deliveries }: Owing, examination: Examination): void {
  const known = new Map(announced.map((event) => [event.seq, event.id]))
  for (const delivery of deliveries) {
    if (delivery.seq === null || known.get(delivery.seq) !== delivery.event_id) {
      examination.report(10, delivery.id, `The delivery announces ${delivery.event_id}, which ${id} has not.`)
    }
  }
  if (url === null) return
  for (const event of announced) {
    const times = deliveries.filter(
      (delivery) => delivery.event_id === event.id && delivery.url === url,
    ).length
    if (times !== 1) examination.report(10, id, `Event ${event.seq} is owed to its receiver ${times} times.`)
  }
}
