import type { Clock } from '../lib/clock.ts'

/** Why a call was ended from this side. */
export type Ended = 'canceled' | 'silent' | 'too long' | 'too large'

export interface CallLimits {
  /** How long one call may take in all. */
  stepTimeoutMs: number
  /** How long a call may go without a sign of life. */
  silenceTimeoutMs: number
  clock: Clock
}

/** Ends a call that is canceled, silent, too long or refused. */
export interface CallWatch {
  signal: AbortSignal
  alive(): void
  /** More was answered than is taken. */
  refuse(): void
  ended(): Ended | null
  end(): void
}

export function watchCall(
  { clock, stepTimeoutMs, silenceTimeoutMs }: CallLimits,
  outer: AbortSignal,
): CallWatch {
  const controller = new AbortController()
  let ended: Ended | null = null
  const stop = (why: Ended): void => {
    ended ??= why
    controller.abort()
  }
  const cancel = (): void => stop('canceled')
  if (outer.aborted) cancel()
  outer.addEventListener('abort', cancel, { once: true })
  const forgetStep = clock.after(stepTimeoutMs, () => stop('too long'))
  let forgetSilence = clock.after(silenceTimeoutMs, () => stop('silent'))
  return {
    signal: controller.signal,
    alive() {
      forgetSilence()
      if (ended === null) forgetSilence = clock.after(silenceTimeoutMs, () => stop('silent'))
    },
    refuse: () => stop('too large'),
    ended: () => ended,
    end() {
      outer.removeEventListener('abort', cancel)
      forgetStep()
      forgetSilence()
    },
  }
}
