import { createHmac, timingSafeEqual } from 'node:crypto'
import { isRecord, WebhookVerificationError } from './errors.ts'
import type { WebhookEvent } from './events.ts'

/** The body exactly as it came over the wire. A parsed and printed body has another signature. */
export type RawBody = string | Uint8Array

/** Headers of any HTTP library: a fetch `Headers`, or a record such as Node's `request.headers`. */
export type WebhookHeaders = Headers | { readonly [name: string]: string | readonly string[] | undefined }

/** What a verifier reads of a request, in Express, Fastify and their kin. */
export interface VerifiableRequest {
  rawBody?: RawBody | undefined
  headers: WebhookHeaders
}

/**
 * Whether `header`, the value of `X-AgentGate-Signature`, signs this body: `sha256=` and the hex HMAC-SHA256
 * keyed with the whole secret string. Takes the same time for every wrong signature; never throws.
 * It cannot tell a replay; `unwrapWebhook` can.
 */
export function verifySignature(rawBody: RawBody, header: string | undefined, secret: string): boolean {
  if (!isRawBody(rawBody) || typeof secret !== 'string' || secret === '') return false
  const hex = typeof header === 'string' ? /^sha256=([0-9a-f]{64})$/i.exec(header)?.[1] : undefined
  if (hex === undefined) return false
  return timingSafeEqual(createHmac('sha256', secret).update(rawBody).digest(), Buffer.from(hex, 'hex'))
}

/** `verifySignature` for whole requests. The framework must keep the raw body as `request.rawBody`. */
export function createVerifier(secret: string): (request: VerifiableRequest) => boolean {
  return (request) =>
    request.rawBody !== undefined &&
    verifySignature(request.rawBody, headerOf(request.headers, 'x-agentgate-signature'), secret)
}

export interface UnwrapOptions {
  /** Seconds the webhook's timestamp may be off, either way. Default 300. */
  tolerance?: number
}

/**
 * The event of a webhook that this secret signed within the last minutes, after the Standard Webhooks
 * specification 1.0. Throws WebhookVerificationError for anything else.
 */
export function unwrapWebhook(
  rawBody: RawBody,
  headers: WebhookHeaders,
  secret: string,
  options: UnwrapOptions = {},
): WebhookEvent {
  const id = requiredHeader(headers, 'webhook-id')
  const timestamp = requiredHeader(headers, 'webhook-timestamp')
  const signatures = requiredHeader(headers, 'webhook-signature')
  if (!isRawBody(rawBody)) refuse('The body must be the raw text or bytes of the request.')

  const seconds = /^\d{1,12}$/.test(timestamp)
    ? Number(timestamp)
    : refuse('webhook-timestamp is not a time.')
  const off = Math.floor(Date.now() / 1000) - seconds
  const tolerance = options.tolerance ?? 300
  if (!(Math.abs(off) <= tolerance)) refuse(`webhook-timestamp is ${Math.abs(off)} seconds off.`)

  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64')
  if (key.length === 0) refuse('The secret is empty.')
  const expected = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(rawBody).digest()
  if (!signatures.split(' ').some((signature) => matches(signature, expected))) {
    refuse('No signature matches the body.')
  }
  return parseEvent(rawBody)
}

function matches(signature: string, expected: Buffer): boolean {
  if (!signature.startsWith('v1,')) return false
  const given = Buffer.from(signature.slice('v1,'.length), 'base64')
  return given.length === expected.length && timingSafeEqual(given, expected)
}

function parseEvent(rawBody: RawBody): WebhookEvent {
  const text = typeof rawBody === 'string' ? rawBody : new TextDecoder().decode(rawBody)
  let event: unknown
  try {
    event = JSON.parse(text)
  } catch (cause) {
    throw new WebhookVerificationError('The body is signed but is not JSON.', { cause })
  }
  if (!isRecord(event) || typeof event.type !== 'string') return refuse('The body is signed but is no event.')
  // The signature vouches for the shape: the gate made this body.
  return event as unknown as WebhookEvent
}

function headerOf(headers: WebhookHeaders, name: string): string | undefined {
  if (headers instanceof Headers) return headers.get(name) ?? undefined
  for (const [key, value] of Object.entries(headers ?? {})) {
    if (key.toLowerCase() === name) return typeof value === 'string' ? value : value?.[0]
  }
  return undefined
}

const requiredHeader = (headers: WebhookHeaders, name: string): string =>
  headerOf(headers, name) || refuse(`The header ${name} is missing.`)

const isRawBody = (value: unknown): value is RawBody =>
  typeof value === 'string' || value instanceof Uint8Array

function refuse(sentence: string): never {
  throw new WebhookVerificationError(sentence)
}
