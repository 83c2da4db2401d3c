/**
 * Moments of an order between what was done and what was written of it, in their order. Crash tests hold a worker
 * there and kill it; in production nobody waits.
 */
export const RACE_POINTS = [
  'claim.taken',
  'workspace.opened',
  'setup.before',
  'setup.done',
  'step.answered',
  'command.before',
  'command.done',
  'checkpoint.taken',
  'iteration.sealed',
  'gate.before',
  'gates.done',
  'push.before',
  'push.after',
  'pull_request.before',
  'pull_request.after',
  'end.before',
] as const

export type RacePoint = (typeof RACE_POINTS)[number]

export type Pause = (point: RacePoint, runId: string) => Promise<void>
