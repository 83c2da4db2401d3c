import type { Clock } from '../lib/clock.ts'

/** Resolves after `ms`, or as soon as the signal is aborted; never rejects. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted || ms <= 0) return Promise.resolve()
  return new Promise((resolve) => {
    const forget = clock.after(ms, wake)
    signal.addEventListener('abort', wake, { once: true })
    function wake(): void {
      forget()
      signal.removeEventListener('abort', wake)
      resolve()
    }
  })
}
