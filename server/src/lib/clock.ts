/** Time as an effect: production reads the system, tests move it by hand. */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  now(): number
  /** Milliseconds from an arbitrary start; never jumps. */
  monotonic(): number
  /** Calls `wake` once after `ms`; the returned function forgets it. */
  after(ms: number, wake: () => void): () => void
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, wake) {
    const timer = setTimeout(wake, ms)
    return () => clearTimeout(timer)
  },
}

/** ISO 8601 UTC with milliseconds, the only form of time on the wire. */
export function toIso(ms: number): string {
  if (ms !== latestMs) {
    latestIso = new Date(ms).toISOString()
    latestMs = ms
  }
  return latestIso
}

/** Events of one decision share their time. */
let latestMs = Number.NaN
let latestIso = ''
