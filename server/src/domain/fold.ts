import { storableJson } from '../lib/text.ts'
import type { RunFacts } from './facts.ts'
import type { Outcome, Run, RunFold } from './run.ts'
import { BLANK_FOLD, unborn } from './run.ts'

/** The part of a fold that storage keeps as one text; what has a column or a table of its own is not in it. */
export type PackedFold = Partial<Omit<RunFold, 'state' | 'statusReason' | 'lastSeq' | 'outcome'>>

type Field = keyof PackedFold

/** What a new run has in each packed field; a field that nothing changed still is this very value. */
const BLANK_FIELDS = Object.entries(BLANK_FOLD).filter(
  ([key]) => !['state', 'statusReason', 'lastSeq', 'outcome'].includes(key),
) as [Field, unknown][]

/**
 * Only what differs from a run that has just been created, so that the hot row stays narrow. Texts are made storable
 * as in the events, so that the stored events make the stored fold.
 */
export function packFold(run: Run): string {
  const packed: Record<string, unknown> = {}
  for (const [field, blank] of BLANK_FIELDS) if (run[field] !== blank) packed[field] = run[field]
  return storableJson(packed)
}

export interface StoredRun {
  state: RunFold['state']
  statusReason: RunFold['statusReason']
  lastSeq: number
  fold: string
  outcome: string | null
}

/** The run as stored: the inverse of `packFold` and of what stands in columns. */
export function unpackRun(facts: RunFacts, stored: StoredRun): Run {
  const packed: PackedFold = JSON.parse(stored.fold)
  const outcome: Outcome | null = stored.outcome === null ? null : JSON.parse(stored.outcome)
  const { state, statusReason, lastSeq } = stored
  return Object.assign(unborn(facts), packed, { state, statusReason, lastSeq, outcome })
}
