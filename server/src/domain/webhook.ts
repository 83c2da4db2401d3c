import { createHmac } from 'node:crypto'
import type { Secret } from '../lib/secret.ts'

/** What signs an endpoint's deliveries. While a rotation lasts, receivers may still hold the previous secret. */
export interface SigningSecret {
  /** `whsec_` and padded base64. */
  current: Secret
  previous?: { secret: Secret; untilMs: number }
}

export interface SignedMessage {
  eventId: string
  eventType: string
  body: string
  secret: SigningSecret
  /** W3C trace context of the run, if it has one. */
  traceparent?: string
  /** When this attempt is made. */
  atMs: number
}

const MAX_BODY_BYTES = 64 * 1024

/** Whether an order's `webhookUrl` is told of events of this type: everything that happens to the run itself. */
export const isDeliveredType = (type: string): boolean => type.startsWith('run.')

/**
 * Every header of a delivery that the receiver may rely on. `webhook-signature` (Standard Webhooks) carries both
 * signatures during a rotation; `X-AgentGate-Signature`, which has room for one, stays with the previous secret until
 * the overlap ends.
 */
export function deliveryHeaders(message: SignedMessage): Record<string, string> {
  const { current, previous } = message.secret
  const former = previous !== undefined && message.atMs < previous.untilMs ? previous.secret : undefined
  const timestamp = Math.floor(message.atMs / 1000)
  const signed = `${message.eventId}.${timestamp}.${message.body}`
  const signatures = [current, ...(former ? [former] : [])].map(
    (secret) => `v1,${standardHmac(secret, signed)}`,
  )
  return {
    'Content-Type': 'application/json',
    'User-Agent': 'AgentGate-Webhooks',
    'X-AgentGate-Event': message.eventType,
    'X-AgentGate-Signature': `sha256=${plainHmac(former ?? current, message.body)}`,
    'webhook-id': message.eventId,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': signatures.join(' '),
    ...(message.traceparent !== undefined && { traceparent: message.traceparent }),
  }
}

/** Keyed with the whole secret, as text. */
const plainHmac = (secret: Secret, text: string): string =>
  createHmac('sha256', secret.reveal()).update(text).digest('hex')

/** Keyed with the decoded part after `whsec_`. */
const standardHmac = (secret: Secret, text: string): string =>
  createHmac('sha256', Buffer.from(secret.reveal().replace(/^whsec_/, ''), 'base64'))
    .update(text)
    .digest('base64')

/**
 * The body of a delivery: the stored envelope, byte for byte. One over 64 KB loses its large parts and says so with
 * `data.truncated: true`: first `output` becomes null and `outputUrl` says where it is; if that is not enough, `data`
 * keeps what identifies the run and its state. The event's own page has all of it.
 */
export function deliveryBody(envelope: string): string {
  if (fits(envelope)) return envelope
  const event: { runId?: string; data: Record<string, unknown> } = JSON.parse(envelope)
  const shortened = {
    output: null,
    outputUrl: event.data['outputUrl'] ?? `/v1/runs/${event.runId}`,
    truncated: true,
  }
  const withoutOutput = JSON.stringify({ ...event, data: { ...event.data, ...shortened } })
  if (fits(withoutOutput)) return withoutOutput
  const kept = IDENTIFYING.filter((name) => name in event.data).map((name) => [name, event.data[name]])
  return JSON.stringify({ ...event, data: { ...Object.fromEntries(kept), ...shortened } })
}

const fits = (text: string): boolean => Buffer.byteLength(text) <= MAX_BODY_BYTES

/** None of these can be large: ids, closed words and texts with limits of their own. */
const IDENTIFYING = [
  'runId',
  'workOrderId',
  'state',
  'status',
  'statusReason',
  'prUrl',
  'verification',
  'usage',
  'cost',
  'correlationId',
  'tenantContext',
]

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE

/** The waits after the first, second, … failed attempt; ten attempts over three days. */
const RETRY_AFTER_MS = [
  5 * SECOND,
  5 * MINUTE,
  30 * MINUTE,
  2 * HOUR,
  5 * HOUR,
  10 * HOUR,
  14 * HOUR,
  20 * HOUR,
  24 * HOUR,
]

/** No receiver may put a delivery off for longer than this. */
const MAX_WAIT_MS = 24 * HOUR

/** What came of one attempt. `status` is null when no answer came. */
export interface AttemptAnswer {
  status: number | null
  /** The header as sent: seconds or an HTTP date. */
  retryAfter?: string | undefined
}

export interface AttemptFacts {
  answer: AttemptAnswer
  /** How many attempts have been made, this one included. */
  attempts: number
  atMs: number
  /** In [0, 1): spreads the wait over ±10 %. */
  jitter: number
}

export type DeliveryOutcome = 'delivered' | 'refused' | 'gave_up'

export type DeliveryDecision = { outcome: DeliveryOutcome } | { retryAtMs: number }

/** 2xx is delivered and 410 refused for good; all else is tried again, by the schedule and not before `Retry-After`. */
export function decideDelivery({ answer, attempts, atMs, jitter }: AttemptFacts): DeliveryDecision {
  const { status } = answer
  if (status !== null && status >= 200 && status < 300) return { outcome: 'delivered' }
  if (status === 410) return { outcome: 'refused' }
  const waitMs = RETRY_AFTER_MS[attempts - 1]
  if (waitMs === undefined) return { outcome: 'gave_up' }
  const spreadMs = Math.round(waitMs * (0.9 + 0.2 * jitter))
  return { retryAtMs: atMs + Math.max(spreadMs, askedWaitMs(answer.retryAfter, atMs)) }
}

function askedWaitMs(retryAfter: string | undefined, atMs: number): number {
  if (retryAfter === undefined) return 0
  const text = retryAfter.trim()
  const waitMs = /^\d+$/.test(text) ? Number(text) * SECOND : Date.parse(text) - atMs
  return Number.isNaN(waitMs) ? 0 : Math.min(Math.max(waitMs, 0), MAX_WAIT_MS)
}

/** What is known of an endpoint that does not answer. */
export interface Breaker {
  failuresInARow: number
  /** Nothing is sent before; then one delivery at a time, until one succeeds. */
  pausedUntilMs: number
}

const FAILURES_TO_OPEN = 5
const FIRST_PAUSE_MS = 5 * SECOND
const MAX_PAUSE_MS = 5 * MINUTE

/**
 * The breaker of an endpoint after an answer; undefined is a closed one. No answer, 429 and 5xx say that the receiver is
 * down; any other answer that it is up, even if it did not like this event.
 */
export function breakerAfter(
  breaker: Breaker | undefined,
  status: number | null,
  atMs: number,
): Breaker | undefined {
  const isDown = status === null || status === 429 || status >= 500
  if (!isDown) return undefined
  const failuresInARow = (breaker?.failuresInARow ?? 0) + 1
  const pauses = failuresInARow - FAILURES_TO_OPEN
  const pauseMs = pauses < 0 ? 0 : Math.min(FIRST_PAUSE_MS * 2 ** pauses, MAX_PAUSE_MS)
  return { failuresInARow, pausedUntilMs: Math.max(breaker?.pausedUntilMs ?? 0, atMs + pauseMs) }
}

export const isOpen = (breaker: Breaker | undefined): breaker is Breaker =>
  breaker !== undefined && breaker.failuresInARow >= FAILURES_TO_OPEN
