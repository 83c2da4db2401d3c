import { TimeoutError } from './errors.ts'
import { LONGEST_TIMER_MS, type RequestOptions, type Transport } from './transport.ts'
import type { Run } from './types.ts'

export interface WaitOptions extends Omit<RequestOptions, 'timeout' | 'idempotencyKey'> {
  /** Milliseconds the whole wait may take. Default: as long as the run does. */
  timeout?: number | undefined
}

/** The gate holds a waiting request at most this long. */
const LONGEST_HOLD_SECONDS = 60
/** Between requests to a gate, or a proxy before it, that does not hold them. */
const POLL_MS = 1_000

/** Asks again and again, each time letting the gate hold the request until the run needs somebody. */
export async function waitForRun(
  get: (options: RequestOptions) => Promise<Run>,
  transport: Transport,
  options: WaitOptions,
): Promise<Run> {
  const { monotonic, pause } = transport.effects
  const { timeout, signal } = options
  const limit = timeout === undefined ? undefined : deadline(timeout, signal)
  const until = monotonic() + (timeout ?? Number.POSITIVE_INFINITY)
  try {
    for (;;) {
      const askedAt = monotonic()
      const seconds = Math.max(1, Math.min(LONGEST_HOLD_SECONDS, Math.ceil((until - askedAt) / 1000)))
      const run = await get({
        ...options,
        signal: limit?.signal ?? signal,
        timeout: seconds * 1000 + transport.settings.timeoutMs,
        headers: { prefer: `wait=${seconds}`, ...options.headers },
      })
      if (!isUnderWay(run)) return run
      const early = POLL_MS - (monotonic() - askedAt)
      if (early > 0) await pause(early, limit?.signal ?? signal)
    }
  } catch (error) {
    if (limit?.passed()) throw new TimeoutError(`The run was still under way after ${timeout} ms.`)
    throw error
  } finally {
    limit?.clear()
  }
}

const isUnderWay = (run: Run): boolean => run.state === 'queued' || run.state === 'running'

/** A signal that aborts after `ms`, or with the caller's own. */
function deadline(ms: number, outer: AbortSignal | undefined) {
  const controller = new AbortController()
  let passed = false
  const timer = setTimeout(
    () => {
      passed = true
      controller.abort()
    },
    Math.min(ms, LONGEST_TIMER_MS),
  )
  const forward = () => controller.abort(outer?.reason)
  if (outer?.aborted) forward()
  else outer?.addEventListener('abort', forward)
  return {
    signal: controller.signal,
    passed: () => passed && !outer?.aborted,
    clear() {
      clearTimeout(timer)
      outer?.removeEventListener('abort', forward)
    },
  }
}
