import type { HeldRun } from '../domain/performer.ts'

/** Reasons of the signal after which nobody goes on with the run. */
const FOR_GOOD: ReadonlySet<unknown> = new Set(['canceled', 'finished', 'overdue'])

/** Whether nobody goes on with the run, as far as this worker knows: another one may hold it meanwhile. */
export const isOver = ({ run, signal }: HeldRun): boolean =>
  run.completedAt !== null || (signal.aborted && FOR_GOOD.has(signal.reason))
