import type { HeldRun } from '../domain/performer.ts'

/** Reasons of the signal after which nobody goes on with the run. */
const FOR_GOOD: ReadonlySet<unknown> = new Set(['canceled', 'finished'])

/** Whether the work stops here while the run goes on, in another worker's hands or in this one's later. */
export const goesOnElsewhere = ({ signal }: HeldRun): boolean =>
  signal.aborted && !FOR_GOOD.has(signal.reason)
