/**
 * The one write path of runs.
 *
 * Owns: the statement that makes a batch of decisions durable.
 * Invariants: 1 (state, events, money and outbox of a decision stand or fall together: every derived row hangs
 * on the ids that the fenced write of `run` returned), 3 (a row changes only on the `last_seq` and claim it was
 * decided on), 6 and the caps (accounts and capacities are locked, in order, before anything is written).
 * Leaves to others: what the rows say (domain), gathering batches (engine).
 */
import { boolArray, float8Array, int4Array, int8Array, textArray, timestampArray } from './array-parameter.ts'
import type { DedicatedConnection } from './database.ts'

/** One decision about one run; a batch holds at most one per run. */
export interface CommitRow {
  runId: string
  commitId: bigint
  oldSeq: number
  newSeq: number
  at: Date
  /** Who held the run when this was decided, and still has to: a hand-back moves no seq. */
  expectedClaim: string | null
  state: string
  statusReason: string
  claim: string | null
  workerId: string | null
  handedBack: boolean
  dueAt: Date | null
  fold: string
  /** One envelope a line; `null` when they stand in a blob. */
  events: string | null
  blobHash: string | null
  /** The outcome of a run that is final now. */
  outcome: string | null
  birth: Birth | null
  journal: JournalRow[]
  deliveries: DeliveryRow[]
  ledger: LedgerRow[]
  money: { organizationId: string; reservedMicro: number; spentMicro: number } | null
  lane: LaneChange | null
  capacity: CapacityChange[]
}

/** What only a create writes. */
export interface Birth {
  organizationId: string
  mode: string
  tenantId: string
  agent: string
  workOrderId: string | null
  facts: string
  /** `tenantId` is the key's own, not what the run is for. */
  idempotency: { route: string; key: string; bodyHash: string; tenantId: string } | null
}

export interface JournalRow {
  n: number
  /** Unique within step `n`; sorts as things happened. */
  part: string
  kind: 'step' | 'tool' | 'feedback'
  record: string
}

export interface DeliveryRow {
  id: string
  eventId: string
  eventType: string
  seq: number
  url: string
  organizationId: string
  mode: string
  tenantId: string
}

export interface LedgerRow {
  id: string
  kind: 'reserve' | 'release' | 'deduct'
  organizationId: string
  tenantId: string
  micro: number
}

export interface LaneChange {
  organizationId: string
  mode: string
  tenantId: string
  agent: string
  queued: number
  running: number
  /** How many turns a dispatch takes of the lane, and the virtual time it counts from; 0 when this is none. */
  advance: number
  virtualTime: number
}

export interface CapacityChange {
  scope: string
  delta: 1 | -1
  limit: number
}

/**
 * `unfenced` rows changed nothing because the run was no longer as it was decided on, because their key is
 * taken, or because the same commit is already there: `classify` tells which.
 */
export type Verdict = 'applied' | 'no_credit' | 'no_capacity' | 'unfenced'

/**
 * A decision that creates nothing, moves no money and neither takes nor frees a place touches few tables; a batch of
 * such rows has a statement of its own, which costs a third of the whole one.
 */
const LIGHT_STATEMENT = `
with i as materialized (
  select * from unnest(
    $1::text[], $2::bigint[], $3::int[], $4::int[], $5::timestamptz[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::bool[], $12::timestamptz[], $13::text[], $14::text[], $15::text[]
  ) as t (id, commit_id, old_seq, new_seq, at, expected_claim, state, status_reason,
    claim, worker_id, handed_back, due_at, fold, events, blob_hash)
),
u as (
  update run set state = i.state, status_reason = i.status_reason, last_seq = i.new_seq, commit_id = i.commit_id,
    claim = i.claim, worker_id = i.worker_id, handed_back = i.handed_back, due_at = i.due_at, fold = i.fold
  from i
  where run.id = i.id and run.last_seq = i.old_seq and run.claim is not distinct from i.expected_claim
  returning run.id
),
ok as materialized (select id from u),
e as (
  insert into run_event (run_id, first_seq, last_seq, commit_id, epoch, at, events, blob_hash)
  select id, old_seq + 1, new_seq, commit_id, $16, at, events, blob_hash from i
  where new_seq > old_seq and (id in (select id from ok)) is true
),
s as (
  insert into step (run_id, n, part, kind, record)
  select run_id, n, part, kind, record
  from unnest($17::text[], $18::int[], $19::text[], $20::text[], $21::text[]) as t (run_id, n, part, kind, record)
  where (run_id in (select id from ok)) is true
  on conflict (run_id, n, part) do update set record = excluded.record
)
select id, case when (id in (select id from ok)) is true then 'applied' else 'unfenced' end as verdict from i`

export const isLight = (row: CommitRow): boolean =>
  row.birth === null &&
  row.outcome === null &&
  row.money === null &&
  row.lane === null &&
  row.capacity.length === 0 &&
  row.deliveries.length === 0

const STATEMENT = `
with i as materialized (
  select * from unnest(
    $1::text[], $2::bigint[], $3::int[], $4::int[], $5::timestamptz[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::bool[], $12::timestamptz[], $13::text[], $14::text[], $15::text[], $16::text[],
    $17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::text[], $24::text[], $25::text[],
    $66::text[]
  ) as t (id, commit_id, old_seq, new_seq, at, expected_claim, state, status_reason,
    claim, worker_id, handed_back, due_at, fold, events, blob_hash, outcome,
    facts, organization_id, mode, tenant_id, agent, work_order_id, route, key, body_hash, key_tenant)
),
cap as materialized (
  select * from unnest($26::text[], $27::text[], $28::int[], $29::int[]) with ordinality as t (run_id, scope, delta, cap, n)
),
cap_now as materialized (
  select scope, running from capacity where scope in (select scope from cap) order by scope for no key update
),
no_capacity as materialized (
  select run_id from (
    select cap.run_id, (select running from cap_now where cap_now.scope = cap.scope)
      + sum(delta) over (partition by scope order by n) > cap.cap as is_over
    from cap where delta > 0
  ) as sums where is_over is not false
),
money as materialized (
  select * from unnest($30::text[], $31::text[], $32::bigint[], $33::bigint[])
    with ordinality as t (run_id, organization_id, reserved, spent, n)
),
account_now as materialized (
  select organization_id, included_micro + purchased_micro - reserved_micro - spent_micro as available
  from account where stripe = 0 and organization_id in (select organization_id from money)
  order by organization_id for no key update
),
no_credit as materialized (
  select run_id from (
    select money.run_id, sum(reserved) over (partition by organization_id order by n)
      > (select available from account_now where account_now.organization_id = money.organization_id) as is_over
    from money where reserved > 0
  ) as sums where is_over is not false
),
k as (
  insert into idempotency_key (organization_id, mode, tenant_id, route, key, body_hash, subject_id, status, created_at)
  select organization_id, mode, key_tenant, route, key, body_hash, id, 201, at from i
  where key is not null and (id in (select run_id from no_credit)) is not true
    and (id in (select run_id from no_capacity)) is not true
  on conflict do nothing returning subject_id
),
c as (
  insert into run (id, organization_id, mode, tenant_id, agent, work_order_id, state, status_reason, last_seq,
    commit_id, claim, worker_id, due_at, created_at, fold)
  select id, organization_id, mode, tenant_id, agent, work_order_id, state, status_reason, new_seq,
    commit_id, claim, worker_id, due_at, at, fold from i
  where facts is not null and (id in (select run_id from no_credit)) is not true
    and (id in (select run_id from no_capacity)) is not true
    and (key is null or (id in (select subject_id from k)) is true)
  on conflict do nothing returning id
),
u as (
  update run set state = i.state, status_reason = i.status_reason, last_seq = i.new_seq, commit_id = i.commit_id,
    claim = i.claim, worker_id = i.worker_id, handed_back = i.handed_back, due_at = i.due_at, fold = i.fold
  from i
  where run.id = i.id and i.facts is null and run.last_seq = i.old_seq
    and run.claim is not distinct from i.expected_claim
    and (i.id in (select run_id from no_credit)) is not true
    and (i.id in (select run_id from no_capacity)) is not true
  returning run.id
),
ok as materialized (select id from c union all select id from u),
e as (
  insert into run_event (run_id, first_seq, last_seq, commit_id, epoch, at, events, blob_hash)
  select id, old_seq + 1, new_seq, commit_id, $34, at, events, blob_hash from i
  where new_seq > old_seq and (id in (select id from ok)) is true
),
b as (
  insert into run_body (run_id, facts) select id, facts from i
  where facts is not null and (id in (select id from ok)) is true
),
w as (
  insert into work_order (id, organization_id, mode, tenant_id, created_at, run_id)
  select work_order_id, organization_id, mode, tenant_id, at, id from i
  where facts is not null and work_order_id is not null and (id in (select id from ok)) is true
  on conflict (id) do update set run_id = excluded.run_id
),
o as (
  insert into run_outcome (run_id, outcome) select id, outcome from i
  where outcome is not null and (id in (select id from ok)) is true
),
s as (
  insert into step (run_id, n, part, kind, record)
  select run_id, n, part, kind, record
  from unnest($35::text[], $36::int[], $37::text[], $38::text[], $39::text[]) as t (run_id, n, part, kind, record)
  where (run_id in (select id from ok)) is true
  on conflict (run_id, n, part) do update set record = excluded.record
),
d as (
  insert into delivery (id, run_id, event_id, event_type, seq, url, organization_id, mode, tenant_id, created_at, next_attempt_at)
  select id, run_id, event_id, event_type, seq, url, organization_id, mode, tenant_id, at, at
  from unnest($40::text[], $41::text[], $42::text[], $43::text[], $44::int[], $45::text[], $46::text[], $47::text[], $48::text[],
    $49::timestamptz[]) as t (id, run_id, event_id, event_type, seq, url, organization_id, mode, tenant_id, at)
  where (run_id in (select id from ok)) is true
),
l as (
  insert into ledger (id, run_id, kind, organization_id, tenant_id, micro, at)
  select id, run_id, kind, organization_id, tenant_id, micro, at
  from unnest($50::text[], $51::text[], $52::text[], $53::text[], $54::text[], $55::bigint[], $56::timestamptz[])
    as t (id, run_id, kind, organization_id, tenant_id, micro, at)
  where (run_id in (select id from ok)) is true
),
a as (
  update account set reserved_micro = reserved_micro + t.reserved, spent_micro = spent_micro + t.spent
  from (select organization_id, sum(reserved)::bigint as reserved, sum(spent)::bigint as spent from money
    where (run_id in (select id from ok)) is true group by organization_id) as t
  where account.stripe = 0 and account.organization_id = t.organization_id
),
p as (
  update capacity set running = running + t.delta
  from (select scope, sum(delta)::int as delta from cap where (run_id in (select id from ok)) is true group by scope) as t
  where capacity.scope = t.scope
),
ln as (
  insert into lane (organization_id, mode, tenant_id, agent, queued, running, tag, virtual_time)
  select organization_id, mode, tenant_id, agent, sum(queued)::int, sum(running)::int, sum(advance), max(virtual_time)
  from unnest($57::text[], $58::text[], $59::text[], $60::text[], $61::text[], $62::int[], $63::int[], $64::float8[], $65::float8[])
    as t (run_id, organization_id, mode, tenant_id, agent, queued, running, advance, virtual_time)
  where (run_id in (select id from ok)) is true
  group by organization_id, mode, tenant_id, agent
  order by organization_id, mode, tenant_id, agent
  on conflict (organization_id, mode, tenant_id, agent) do update
    set queued = lane.queued + excluded.queued, running = lane.running + excluded.running,
      tag = greatest(lane.tag, excluded.virtual_time) + excluded.tag / lane.weight,
      virtual_time = greatest(lane.virtual_time, excluded.virtual_time)
)
select id, case
  when (id in (select id from ok)) is true then 'applied'
  when (id in (select run_id from no_credit)) is true then 'no_credit'
  when (id in (select run_id from no_capacity)) is true then 'no_capacity'
  else 'unfenced' end as verdict
from i`

/** Planner settings of the writers' connections: index plans only, held by a test of the plan. */
export const WRITER_SETTINGS = {
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  jit: 'off',
  lock_timeout: '200ms',
  plan_cache_mode: 'force_generic_plan',
}

/** Makes a batch durable and says what became of each row. Throws `DatabaseError`; then nothing was written. */
export async function commitBatch(
  connection: DedicatedConnection,
  epoch: number,
  rows: readonly CommitRow[],
): Promise<Map<string, Verdict>> {
  const light = rows.every(isLight)
  const answers = await connection.query<{ id: string; verdict: Verdict }>(
    light ? { name: 'commit_light', text: LIGHT_STATEMENT } : { name: 'commit_batch', text: STATEMENT },
    light ? [...hotColumns(rows), epoch, ...journalColumns(rows)] : parameters(epoch, rows),
  )
  return new Map(answers.map(({ id, verdict }) => [id, verdict]))
}

/** Rows that hang on a decision, each with its decision. */
function derived<T>(
  rows: readonly CommitRow[],
  of: (row: CommitRow) => readonly T[],
): { row: CommitRow; one: T }[] {
  return rows.flatMap((row) => of(row).map((one) => ({ row, one })))
}

function parameters(epoch: number, rows: readonly CommitRow[]): unknown[] {
  const capacity = derived(rows, (row) => row.capacity)
  const money = derived(rows, (row) => (row.money === null ? [] : [row.money]))
  const deliveries = derived(rows, (row) => row.deliveries)
  const ledger = derived(rows, (row) => row.ledger)
  const lanes = derived(rows, (row) => (row.lane === null ? [] : [row.lane]))
  return [
    ...runColumns(rows),
    textArray(capacity.map(({ row }) => row.runId)),
    textArray(capacity.map(({ one }) => one.scope)),
    int4Array(capacity.map(({ one }) => one.delta)),
    int4Array(capacity.map(({ one }) => one.limit)),
    textArray(money.map(({ row }) => row.runId)),
    textArray(money.map(({ one }) => one.organizationId)),
    int8Array(money.map(({ one }) => one.reservedMicro)),
    int8Array(money.map(({ one }) => one.spentMicro)),
    epoch,
    ...journalColumns(rows),
    textArray(deliveries.map(({ one }) => one.id)),
    textArray(deliveries.map(({ row }) => row.runId)),
    textArray(deliveries.map(({ one }) => one.eventId)),
    textArray(deliveries.map(({ one }) => one.eventType)),
    int4Array(deliveries.map(({ one }) => one.seq)),
    textArray(deliveries.map(({ one }) => one.url)),
    textArray(deliveries.map(({ one }) => one.organizationId)),
    textArray(deliveries.map(({ one }) => one.mode)),
    textArray(deliveries.map(({ one }) => one.tenantId)),
    timestampArray(deliveries.map(({ row }) => row.at)),
    textArray(ledger.map(({ one }) => one.id)),
    textArray(ledger.map(({ row }) => row.runId)),
    textArray(ledger.map(({ one }) => one.kind)),
    textArray(ledger.map(({ one }) => one.organizationId)),
    textArray(ledger.map(({ one }) => one.tenantId)),
    int8Array(ledger.map(({ one }) => one.micro)),
    timestampArray(ledger.map(({ row }) => row.at)),
    textArray(lanes.map(({ row }) => row.runId)),
    textArray(lanes.map(({ one }) => one.organizationId)),
    textArray(lanes.map(({ one }) => one.mode)),
    textArray(lanes.map(({ one }) => one.tenantId)),
    textArray(lanes.map(({ one }) => one.agent)),
    int4Array(lanes.map(({ one }) => one.queued)),
    int4Array(lanes.map(({ one }) => one.running)),
    float8Array(lanes.map(({ one }) => one.advance)),
    float8Array(lanes.map(({ one }) => one.virtualTime)),
    textArray(rows.map((row) => row.birth?.idempotency?.tenantId ?? null)),
  ]
}

function journalColumns(rows: readonly CommitRow[]): unknown[] {
  const journal = derived(rows, (row) => row.journal)
  return [
    textArray(journal.map(({ row }) => row.runId)),
    int4Array(journal.map(({ one }) => one.n)),
    textArray(journal.map(({ one }) => one.part)),
    textArray(journal.map(({ one }) => one.kind)),
    textArray(journal.map(({ one }) => one.record)),
  ]
}

/** What every decision writes of its run. */
function hotColumns(rows: readonly CommitRow[]): unknown[] {
  return [
    textArray(rows.map((row) => row.runId)),
    int8Array(rows.map((row) => row.commitId)),
    int4Array(rows.map((row) => row.oldSeq)),
    int4Array(rows.map((row) => row.newSeq)),
    timestampArray(rows.map((row) => row.at)),
    textArray(rows.map((row) => row.expectedClaim)),
    textArray(rows.map((row) => row.state)),
    textArray(rows.map((row) => row.statusReason)),
    textArray(rows.map((row) => row.claim)),
    textArray(rows.map((row) => row.workerId)),
    boolArray(rows.map((row) => row.handedBack)),
    timestampArray(rows.map((row) => row.dueAt)),
    textArray(rows.map((row) => row.fold)),
    textArray(rows.map((row) => row.events)),
    textArray(rows.map((row) => row.blobHash)),
  ]
}

function runColumns(rows: readonly CommitRow[]): unknown[] {
  return [
    ...hotColumns(rows),
    textArray(rows.map((row) => row.outcome)),
    textArray(rows.map((row) => row.birth?.facts ?? null)),
    textArray(rows.map((row) => row.birth?.organizationId ?? null)),
    textArray(rows.map((row) => row.birth?.mode ?? null)),
    textArray(rows.map((row) => row.birth?.tenantId ?? null)),
    textArray(rows.map((row) => row.birth?.agent ?? null)),
    textArray(rows.map((row) => row.birth?.workOrderId ?? null)),
    textArray(rows.map((row) => row.birth?.idempotency?.route ?? null)),
    textArray(rows.map((row) => row.birth?.idempotency?.key ?? null)),
    textArray(rows.map((row) => row.birth?.idempotency?.bodyHash ?? null)),
  ]
}

/** Why a row was `unfenced`. */
export type Cause =
  | { cause: 'already_applied' }
  | { cause: 'key_taken'; runId: string; bodyHash: string }
  | { cause: 'moved'; lastSeq: number; claim: string | null }
  | { cause: 'missing' }

export async function classify(connection: DedicatedConnection, row: CommitRow): Promise<Cause> {
  const [twin] = await connection.query(
    {
      name: 'find_commit',
      text: 'select 1 as found from run_event where run_id = $1 and first_seq = $2 and at = $3 and commit_id = $4',
    },
    [row.runId, row.oldSeq + 1, row.at, row.commitId],
  )
  if (twin !== undefined) return { cause: 'already_applied' }
  const taken = row.birth && (await findTakenKey(connection, row.birth))
  if (taken) return { cause: 'key_taken', ...taken }
  const [now] = await connection.query<{ last_seq: number; claim: string | null; is_same: boolean }>(
    { name: 'find_fence', text: 'select last_seq, claim, commit_id = $2 as is_same from run where id = $1' },
    [row.runId, row.commitId],
  )
  if (now?.is_same) return { cause: 'already_applied' }
  return now ? { cause: 'moved', lastSeq: now.last_seq, claim: now.claim } : { cause: 'missing' }
}

async function findTakenKey(
  connection: DedicatedConnection,
  { organizationId, mode, idempotency }: Birth,
): Promise<{ runId: string; bodyHash: string } | undefined> {
  if (idempotency === null) return undefined
  const [row] = await connection.query<{ subject_id: string; body_hash: string }>(
    {
      name: 'find_taken_key',
      text: `select subject_id, body_hash from idempotency_key
        where organization_id = $1 and mode = $2 and tenant_id = $3 and route = $4 and key = $5`,
    },
    [organizationId, mode, idempotency.tenantId, idempotency.route, idempotency.key],
  )
  return row && { runId: row.subject_id, bodyHash: row.body_hash }
}
