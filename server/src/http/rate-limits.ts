import type { Bucket } from '../contract/endpoints.ts'
import type { Clock } from '../lib/clock.ts'

/** Requests per minute. */
export type Allowances = Readonly<Record<Bucket, number>>

export const DEFAULT_ALLOWANCES: Allowances = { reads: 1_000, writes: 100, submissions: 20, control: 600 }

/** How an allowance stands after a request was counted against it. */
export interface Standing {
  bucket: Bucket
  allowed: boolean
  limit: number
  remaining: number
  /** When the whole allowance is there again, in milliseconds since the epoch. */
  resetAt: number
  /** Seconds until the next request can pass; 0 when it passed. */
  retryAfterSeconds: number
}

interface Tokens {
  left: number
  countedAt: number
}

const MINUTE_MS = 60_000
const MOST_BUCKETS = 10_000

/** Token buckets of this process: each organisation has one of each kind, which fills up over a minute. */
export class RateLimits {
  readonly #allowances: Allowances
  readonly #clock: Clock
  readonly #tokens = new Map<string, Tokens>()

  constructor(allowances: Allowances, clock: Clock) {
    this.#allowances = allowances
    this.#clock = clock
  }

  take(organizationId: string, bucket: Bucket): Standing {
    const limit = this.#allowances[bucket]
    const tokens = this.#refilled(organizationId, bucket)
    const allowed = tokens.left >= 1
    if (allowed) tokens.left -= 1
    const perMs = limit / MINUTE_MS
    return {
      bucket,
      allowed,
      limit,
      remaining: Math.floor(tokens.left),
      resetAt: Math.ceil(this.#clock.now() + (limit - tokens.left) / perMs),
      retryAfterSeconds: allowed ? 0 : Math.max(1, Math.ceil((1 - tokens.left) / perMs / 1000)),
    }
  }

  /** Gives back what a request took that turned out to be free. */
  giveBack(organizationId: string, bucket: Bucket): void {
    const tokens = this.#refilled(organizationId, bucket)
    tokens.left = Math.min(this.#allowances[bucket], tokens.left + 1)
  }

  #refilled(organizationId: string, bucket: Bucket): Tokens {
    const key = `${bucket} ${organizationId}`
    const now = this.#clock.monotonic()
    const limit = this.#allowances[bucket]
    const before = this.#tokens.get(key) ?? { left: limit, countedAt: now }
    const left = Math.min(limit, before.left + ((now - before.countedAt) * limit) / MINUTE_MS)
    const tokens = { left, countedAt: now }
    if (this.#tokens.size >= MOST_BUCKETS) this.#dropFull(now)
    this.#tokens.set(key, tokens)
    return tokens
  }

  /** A bucket that nobody used for a minute is full, and as good as none. */
  #dropFull(now: number): void {
    for (const [key, { countedAt }] of this.#tokens) {
      if (now - countedAt >= MINUTE_MS) this.#tokens.delete(key)
    }
  }
}

/** The standing in the words of the IETF draft and in the older ones. */
export const limitHeaders = (
  { bucket, limit, remaining, resetAt }: Standing,
  now: number,
): Record<string, string> => ({
  'x-ratelimit-limit': String(limit),
  'x-ratelimit-remaining': String(remaining),
  'x-ratelimit-reset': String(Math.ceil(resetAt / 1000)),
  'ratelimit-policy': `"${bucket}";q=${limit};w=60`,
  ratelimit: `"${bucket}";r=${remaining};t=${Math.max(0, Math.ceil((resetAt - now) / 1000))}`,
})
