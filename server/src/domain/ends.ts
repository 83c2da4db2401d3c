/** How a run ends: the three final events, with its money and what its receivers are told. Pure. */
import type { EventBody, FinalData, Stopped, StopWay } from './event.ts'
import { FAILURE_HINTS } from './failure-hints.ts'
import type { JsonValue } from './json.ts'
import type { Delivery, FailedReason, PublicError, Stage, StatusReason } from './lifecycle.ts'
import { creditsCharged } from './money.ts'
import { chargeAt, type Run, stageOf } from './run.ts'

/** Why a run fails, for a reason of the table. */
export interface Failure {
  reason: FailedReason
  stage: Stage
  /** One sentence that says what happened. */
  message: string
  /** Unless given, what the reason says. */
  retryable?: boolean
  /** What to do; unless given, what the reason says. */
  hint?: string
  details?: { [key: string]: unknown }
  delivery?: Delivery | null
}

/** What a run leaves that its agent has finished. */
export interface Completion {
  reason: 'completed' | 'no_changes'
  output: JsonValue
  outputUrl?: string
  delivery: Delivery | null
}

/** How a holder can have stopped the work. */
export type HoldersStop = Extract<StopWay, 'agreed' | 'killed'>

/** Why a run fails that has worked for as long as it may. */
export const timeLimit = (run: Run): Failure => ({
  reason: 'limit_time',
  stage: stageOf(run),
  message: `The run worked for ${run.facts.constraints.maxDurationSeconds} seconds, the most it may.`,
})

const RETRYABLE: ReadonlySet<StatusReason> = new Set([
  'model_error',
  'source_unavailable',
  'queue_expired',
  'base_moved',
  'delivery_failed',
  'driver_unavailable',
  'system_error',
])

export function failed(run: Run, at: number, failure: Failure & { how: StopWay }): EventBody {
  const error: PublicError = {
    code: failure.reason.toUpperCase(),
    message: failure.message,
    retryable: failure.retryable ?? RETRYABLE.has(failure.reason),
    hint: failure.hint ?? FAILURE_HINTS[failure.reason],
    details: { stage: failure.stage, ...failure.details },
  }
  const stopped = stoppedAt(at, failure.how)
  const data = final(run, at, { state: 'failed', statusReason: failure.reason, error, stopped })
  if (failure.delivery) data.delivery = failure.delivery
  return { type: 'run.failed', data }
}

export function canceled(run: Run, at: number, how: StopWay): EventBody {
  const error: PublicError = { code: 'CANCELED_BY_USER', message: 'The run was canceled.', retryable: false }
  const stopped = stoppedAt(at, how)
  const data = final(run, at, { state: 'canceled', statusReason: 'canceled_by_user', error, stopped })
  return { type: 'run.canceled', data }
}

const stoppedAt = (at: number, how: StopWay): Stopped => ({ how, at: new Date(at).toISOString() })

export function completed(run: Run, at: number, completion: Completion): EventBody {
  const { reason, output, outputUrl, delivery } = completion
  const data = final(run, at, { state: 'completed', statusReason: reason, error: null })
  data.output = output
  data.delivery = delivery
  if (outputUrl !== undefined) data.outputUrl = outputUrl
  return { type: 'run.completed', data }
}

type End = Pick<FinalData, 'state' | 'statusReason' | 'error' | 'stopped'>

function final(run: Run, at: number, { state, statusReason, error, stopped }: End): FinalData {
  const chargedMicro = chargeAt(run, at)
  return {
    state,
    statusReason,
    error,
    output: null,
    ...(state !== 'completed' && run.text !== null && { partialOutput: run.text }),
    delivery: run.pushed === null ? null : { mode: 'branch', ...run.pushed },
    verification: run.verification,
    chargedMicro,
    cost: { credits: creditsCharged(chargedMicro), currency: 'USD', estimated: run.estimated },
    ...(stopped && { stopped }),
  }
}
