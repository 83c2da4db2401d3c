/** What the rows of a batch become on their way to PostgreSQL: one array for each column (commit-statement.ts). */
import { boolArray, float8Array, int4Array, int8Array, textArray, timestampArray } from './array-parameter.ts'
import type {
  CapacityChange,
  CommitRow,
  DeliveryRow,
  JournalRow,
  LaneChange,
  LedgerRow,
} from './commit-row.ts'

/** Rows handed over as one array for each column. */
export interface Source {
  columns: readonly { name: string; type: string }[]
  values(rows: readonly CommitRow[]): Buffer[]
}

interface Column<T> {
  name: string
  type: string
  encode(all: readonly T[]): Buffer
}

const columnOf =
  <V>(type: string, array: (values: readonly V[]) => Buffer) =>
  <T>(name: string, of: (one: T) => V): Column<T> => ({ name, type, encode: (all) => array(all.map(of)) })

const text = columnOf<string | null>('text', textArray)
const int4 = columnOf('int4', int4Array)
const int8 = columnOf('int8', int8Array)
const float8 = columnOf('float8', float8Array)
const bool = columnOf('bool', boolArray)
const time = columnOf('timestamptz', timestampArray)

const source = <T>(gather: (rows: readonly CommitRow[]) => readonly T[], columns: Column<T>[]): Source => ({
  columns,
  values(rows) {
    const all = gather(rows)
    return columns.map((column) => column.encode(all))
  },
})

/** Rows that hang on a decision, each with its decision. */
interface Derived<T> {
  row: CommitRow
  one: T
}

const derived =
  <T>(of: (row: CommitRow) => readonly T[]) =>
  (rows: readonly CommitRow[]): Derived<T>[] =>
    rows.flatMap((row) => of(row).map((one) => ({ row, one })))

const runId = <T>(): Column<Derived<T>> => text('run_id', ({ row }) => row.runId)

/** What every decision writes of its run. */
const DECISION: readonly Column<CommitRow>[] = [
  text('id', (row) => row.runId),
  int8('commit_id', (row) => row.commitId),
  int4('old_seq', (row) => row.oldSeq),
  int4('new_seq', (row) => row.newSeq),
  time('at', (row) => row.at),
  text('expected_claim', (row) => row.expectedClaim),
  text('state', (row) => row.state),
  text('status_reason', (row) => row.statusReason),
  text('claim', (row) => row.claim),
  text('worker_id', (row) => row.workerId),
  bool('handed_back', (row) => row.handedBack),
  time('due_at', (row) => row.dueAt),
  text('fold', (row) => row.fold),
  text('events', (row) => row.events),
  text('blob_hash', (row) => row.blobHash),
]

const BIRTH: readonly Column<CommitRow>[] = [
  text('facts', (row) => row.birth?.facts ?? null),
  text('organization_id', (row) => row.birth?.organizationId ?? null),
  text('mode', (row) => row.birth?.mode ?? null),
  text('tenant_id', (row) => row.birth?.tenantId ?? null),
  text('agent', (row) => row.birth?.agent ?? null),
  text('work_order_id', (row) => row.birth?.workOrderId ?? null),
]

const KEY: readonly Column<CommitRow>[] = [
  text('route', (row) => row.birth?.idempotency?.route ?? null),
  text('key', (row) => row.birth?.idempotency?.key ?? null),
  text('body_hash', (row) => row.birth?.idempotency?.bodyHash ?? null),
  text('key_tenant', (row) => row.birth?.idempotency?.tenantId ?? null),
]

const OUTCOME: readonly Column<CommitRow>[] = [text('outcome', (row) => row.outcome)]

export const JOURNAL = source<Derived<JournalRow>>(
  derived((row) => row.journal),
  [
    runId(),
    int4('n', ({ one }) => one.n),
    text('part', ({ one }) => one.part),
    text('kind', ({ one }) => one.kind),
    text('record', ({ one }) => one.record),
  ],
)

export const DELIVERIES = source<Derived<DeliveryRow>>(
  derived((row) => row.deliveries),
  [
    text('id', ({ one }) => one.id),
    runId(),
    text('event_id', ({ one }) => one.eventId),
    text('event_type', ({ one }) => one.eventType),
    int4('seq', ({ one }) => one.seq),
    text('url', ({ one }) => one.url),
    text('organization_id', ({ one }) => one.organizationId),
    text('mode', ({ one }) => one.mode),
    text('tenant_id', ({ one }) => one.tenantId),
    time('at', ({ row }) => row.at),
  ],
)

export const MONEY = source<Derived<NonNullable<CommitRow['money']>>>(
  derived((row) => (row.money === null ? [] : [row.money])),
  [
    runId(),
    text('organization_id', ({ one }) => one.organizationId),
    int8('reserved', ({ one }) => one.reservedMicro),
    int8('spent', ({ one }) => one.spentMicro),
  ],
)

export const LEDGER = source<Derived<LedgerRow>>(
  derived((row) => row.ledger),
  [
    text('id', ({ one }) => one.id),
    runId(),
    text('kind', ({ one }) => one.kind),
    text('organization_id', ({ one }) => one.organizationId),
    text('tenant_id', ({ one }) => one.tenantId),
    int8('micro', ({ one }) => one.micro),
    time('at', ({ row }) => row.at),
  ],
)

export const CAPACITY = source<Derived<CapacityChange>>(
  derived((row) => row.capacity),
  [
    runId(),
    text('scope', ({ one }) => one.scope),
    int4('delta', ({ one }) => one.delta),
    int4('cap', ({ one }) => one.limit),
  ],
)

export const LANES = source<Derived<LaneChange>>(
  derived((row) => (row.lane === null ? [] : [row.lane])),
  [
    runId(),
    text('organization_id', ({ one }) => one.organizationId),
    text('mode', ({ one }) => one.mode),
    text('tenant_id', ({ one }) => one.tenantId),
    text('agent', ({ one }) => one.agent),
    int4('queued', ({ one }) => one.queued),
    int4('running', ({ one }) => one.running),
    float8('advance', ({ one }) => one.advance),
    float8('virtual_time', ({ one }) => one.virtualTime),
  ],
)

/** The decisions themselves, with the columns that this batch has something in. */
export const decisions = (has: { births: boolean; keys: boolean; outcomes: boolean }): Source =>
  source<CommitRow>(
    (rows) => rows,
    [...DECISION, ...(has.births ? BIRTH : []), ...(has.keys ? KEY : []), ...(has.outcomes ? OUTCOME : [])],
  )
