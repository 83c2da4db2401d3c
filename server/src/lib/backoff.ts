export interface Backoff {
  firstMs: number
  factor: number
  maxMs: number
}

/** Exponential delay before try `attempt` (1 is the first repeat), spread over ±20 % by `random` in [0, 1). */
export function backoffMs(backoff: Backoff, attempt: number, random: number): number {
  const plain = Math.min(backoff.firstMs * backoff.factor ** (attempt - 1), backoff.maxMs)
  return Math.round(plain * (0.8 + 0.4 * random))
}
