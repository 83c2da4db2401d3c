import type { Envelope, RunEvent } from './event.ts'
import type { RunFacts } from './facts.ts'
import { apply, type Run, unborn } from './run.ts'

/**
 * An event as it was stored, for `apply`: its data carries more than the event's own fields, which `apply` does
 * not look at, and its type may be one that this version does not know, which moves `lastSeq` and nothing else.
 */
export function eventOf({ type, seq, createdAt, data }: Envelope): RunEvent {
  // What was written came from `publicData`, which keeps every field of the event's own.
  return { type, seq, at: Date.parse(createdAt), data } as unknown as RunEvent
}

/** The run that these events make, from the first on. Equal to the stored fold, or one of the two is wrong. */
export const refold = (facts: RunFacts, envelopes: readonly Envelope[]): Run =>
  envelopes.reduce<Run>((run, envelope) => apply(run, eventOf(envelope)), unborn(facts))
