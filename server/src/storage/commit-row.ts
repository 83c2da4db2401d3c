/** What one decision about one run writes: the rows of the write path (commit.ts). */

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

/** Whether a decision creates nothing, moves no money and neither takes nor frees a place: it locks nothing shared. */
export const isLight = (row: CommitRow): boolean =>
  row.birth === null &&
  row.outcome === null &&
  row.money === null &&
  row.lane === null &&
  row.capacity.length === 0 &&
  row.deliveries.length === 0
