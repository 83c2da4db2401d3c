import type { JournalEntry } from './agent.ts'
import type { WorkCommand } from './command.ts'
import type { FailedReason } from './lifecycle.ts'
import type { Run } from './run.ts'

/** The holder no longer holds the run: another worker claimed it, or it has ended. Work must stop. */
export class ClaimLost extends Error {
  override readonly name = 'ClaimLost'
}

/** A command changed nothing: the run is to end with this reason. */
export class LimitReached extends Error {
  override readonly name = 'LimitReached'
  readonly reason: FailedReason
  constructor(reason: FailedReason, message: string) {
    super(message)
    this.reason = reason
  }
}

/** A run in the hands of one worker. */
export interface HeldRun {
  /** The run as of the last acknowledged command. */
  readonly run: Run
  /** Aborted when the work must stop: a cancel, a lost claim, a final state, or the worker draining. */
  readonly signal: AbortSignal
  /**
   * Resolves once the command is durable. Throws `ClaimLost`, or `LimitReached` when a cap, the credit or a
   * wish to cancel stands against it.
   */
  send(command: WorkCommand, journal?: readonly JournalEntry[]): Promise<Run>
  /**
   * Keeps the command for the next `send`, which makes all of them durable together or stops at the first that is
   * refused. For what nothing follows from yet: no effect may come between.
   */
  defer(command: WorkCommand, journal?: readonly JournalEntry[]): void
  /** Makes durable what was deferred; fails as `send` does. */
  flush(): Promise<Run>
  /** The journal that still counts, oldest first: steps that were not forgotten, with their outcomes. */
  journal(): Promise<JournalEntry[]>
  /** Says that a command was under way when the work had to stop, and was killed. */
  noteKilled(): void
  /** Draft text: shown to whoever watches, never stored. */
  draft(text: string): void
}

/** Reasons of the signal after which nobody goes on with the run. */
const FOR_GOOD: ReadonlySet<unknown> = new Set(['canceled', 'finished', 'overdue'])

/** Whether nobody goes on with the run, as far as this worker knows: another one may hold it meanwhile. */
export const isOver = ({ run, signal }: Pick<HeldRun, 'run' | 'signal'>): boolean =>
  run.completedAt !== null || (signal.aborted && FOR_GOOD.has(signal.reason))

/** What the engine asks of the room that works on claimed runs. */
export interface Performer {
  /** The last step whose effects the restored workspace will contain; asked before a started run is claimed. */
  resumePoint(run: Run): Promise<number>
  /**
   * Works until the run is final or the signal is aborted; when it settles nothing of the run works any more.
   * A rejection other than `ClaimLost` ends the run as `system_error`.
   */
  perform(held: HeldRun): Promise<void>
  /** The run is over, however it ended, and nothing of it works here: what was kept for going on with it may go. */
  forget?(run: Run): Promise<void>
}
