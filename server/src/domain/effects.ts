import type { StatusReason } from './lifecycle.ts'
import type { Run } from './run.ts'

/** A write outside the jail. */
export interface Effect {
  type: 'delivery.push' | 'delivery.pull_request'
  /** False when the run ended before it could say. */
  certain: boolean
  branch?: string
  commit?: string
  prUrl?: string
}

/** Ends after the verdict that say by themselves that nothing was pushed. */
const NOTHING_PUSHED: ReadonlySet<StatusReason> = new Set<StatusReason>([
  'base_moved',
  'push_rejected',
  'no_changes',
  'limit_iterations',
  'verification_failed',
])

/** What a final run wrote outside its jail, or may have written: repeating it would write again. */
export function effectsOf(run: Run): Effect[] {
  const effects: Effect[] = []
  if (run.pushed !== null) effects.push({ type: 'delivery.push', certain: true, ...run.pushed })
  else if (mayHavePushed(run)) effects.push({ type: 'delivery.push', certain: false })
  if (run.prUrl !== null) effects.push({ type: 'delivery.pull_request', certain: true, prUrl: run.prUrl })
  return effects
}

function mayHavePushed(run: Run): boolean {
  const { order } = run.facts
  if (order === null || order.delivery?.mode === 'none' || run.state === 'completed') return false
  const { verdict, changed } = run.iteration
  return changed && (verdict === 'passed' || verdict === 'none') && !NOTHING_PUSHED.has(run.statusReason)
}
