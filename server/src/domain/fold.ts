import { storableJson } from '../lib/text.ts'
import type { RunFacts } from './facts.ts'
import type { Outcome, Run, RunFold } from './run.ts'
import { unborn } from './run.ts'

/** The part of a fold that storage keeps as one text; what has a column or a table of its own is not in it. */
export type PackedFold = Partial<Omit<RunFold, 'state' | 'statusReason' | 'lastSeq' | 'outcome'>>

const OWN_COLUMNS: ReadonlySet<string> = new Set(['facts', 'state', 'statusReason', 'lastSeq', 'outcome'])

/**
 * Only what differs from a run that has just been created, so that the hot row stays narrow. Texts are made storable
 * as in the events, so that the stored events make the stored fold.
 */
export function packFold(run: Run): string {
  const blank: Record<string, unknown> = { ...unborn(run.facts) }
  const changed = Object.entries(run).filter(
    ([key, value]) => !OWN_COLUMNS.has(key) && JSON.stringify(value) !== JSON.stringify(blank[key]),
  )
  return storableJson(Object.fromEntries(changed))
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
  return { ...unborn(facts), ...packed, state, statusReason, lastSeq, outcome }
}
