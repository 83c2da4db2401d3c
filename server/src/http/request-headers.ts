import { newId, randomHex } from '../lib/id.ts'
import { invalid } from './problems.ts'

const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/
const TRACEPARENT = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/

/** A header that may come several times, as one text. */
export const headerText = (header: string | string[] | undefined): string | undefined =>
  Array.isArray(header) ? header.join(', ') : header

/** The caller's `X-Request-Id` if it has the right form, else a new one. */
export const requestIdOf = (header: string | undefined, at: number): string =>
  header !== undefined && REQUEST_ID.test(header) ? header : newId('req', at)

/** The caller's W3C trace context if it has the right form, else the beginning of a new one. */
export const traceparentOf = (header: string | undefined): string =>
  header !== undefined && TRACEPARENT.test(header) ? header : `00-${randomHex(16)}-${randomHex(8)}-01`

const MOST_WAIT_SECONDS = 60

/** Seconds from `Prefer: wait=N`, at most 60; a preference that cannot be read is none (RFC 7240). */
export function waitOf(prefer: string | undefined): number | null {
  const [, seconds] = /(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])/i.exec(prefer ?? '') ?? []
  return seconds === undefined ? null : Math.min(Number(seconds), MOST_WAIT_SECONDS)
}

/** The `Idempotency-Key`, or `null`. Throws `GateError` for one that cannot be a key. */
export function idempotencyKeyOf(header: string | undefined): string | null {
  if (header === undefined) return null
  if (/^[\x21-\x7e]{1,255}$/.test(header)) return header
  const message = 'must be 1–255 visible ASCII characters'
  throw invalid([{ code: 'INVALID_FORMAT', field: 'Idempotency-Key', message }])
}

/** Whether `If-None-Match` names this strong tag. */
export const isMatch = (ifNoneMatch: string | undefined, etag: string): boolean =>
  (ifNoneMatch ?? '')
    .split(',')
    .map((tag) => tag.trim().replace(/^W\//, ''))
    .some((tag) => tag === etag || tag === '*')
