import { APIError, ConnectionError, retryAfterMs } from './errors.ts'

const FIRST_MS = 500
const MAX_MS = 8_000

/**
 * How long to wait before repeat number `repeat` (from 1) after this error; undefined when a repeat cannot help.
 * `random` in [0, 1) shortens the delay by up to a quarter, so that clients that failed together return apart.
 */
export function retryDelayMs(error: unknown, repeat: number, random: number): number | undefined {
  const backoff = Math.min(FIRST_MS * 2 ** (repeat - 1), MAX_MS) * (1 - random / 4)
  if (error instanceof ConnectionError) return backoff
  if (!(error instanceof APIError) || !isPassing(error)) return undefined
  return retryAfterMs(error.headers) ?? backoff
}

/**
 * Whether the failure leaves open what became of the request. After a connection or server error the gate may
 * have done it; after a rate limit, an earlier attempt may have.
 */
export function isUnsettled(error: unknown): boolean {
  return error instanceof APIError ? isPassing(error) : true
}

const isPassing = (error: APIError): boolean =>
  error.status >= 500 || error.status === 429 || error.code === 'IDEMPOTENCY_IN_FLIGHT'
