/**
 * Everything this SDK throws:
 *
 *   AgentGateError
 *   ├── APIError                    the gate answered with a refusal or a failure
 *   │   ├── BadRequestError         400
 *   │   ├── AuthenticationError     401
 *   │   ├── InsufficientCreditsError 402
 *   │   ├── PermissionDeniedError   403
 *   │   ├── NotFoundError           404
 *   │   ├── ConflictError           409
 *   │   ├── UnprocessableError      422
 *   │   ├── RateLimitError          429
 *   │   └── ServerError             5xx
 *   ├── ConnectionError             no complete answer arrived
 *   │   └── TimeoutError            … in time
 *   └── WebhookVerificationError    a webhook that this gate did not send, or not now
 *
 * An aborted `signal` rejects with the signal's own reason.
 */
export class AgentGateError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
  }
}

/** What an `APIError` is made from. */
export interface ErrorAnswer {
  status: number
  headers: Headers
  code: string
  message: string
  details: Record<string, unknown>
  requestId: string | undefined
  retryable: boolean
  hint: string | undefined
}

export class APIError extends AgentGateError {
  /** HTTP status. */
  readonly status: number
  /** One of the gate's error codes, such as `INSUFFICIENT_CREDITS`; `HTTP_<status>` when another server answered. */
  readonly code: string
  /** Facts a program can act on; which ones, depends on the code. */
  readonly details: Record<string, unknown>
  /** Names this request in the gate's log. */
  readonly requestId: string | undefined
  readonly headers: Headers
  /** Whether the same request may succeed later. */
  readonly retryable: boolean
  /** One sentence that says what to do. */
  readonly hint: string | undefined

  constructor(answer: ErrorAnswer) {
    super(answer.message)
    this.status = answer.status
    this.code = answer.code
    this.details = answer.details
    this.requestId = answer.requestId
    this.headers = answer.headers
    this.retryable = answer.retryable
    this.hint = answer.hint
  }
}

export class BadRequestError extends APIError {}
export class AuthenticationError extends APIError {}
export class InsufficientCreditsError extends APIError {}
export class PermissionDeniedError extends APIError {}
export class NotFoundError extends APIError {}
export class ConflictError extends APIError {}
export class UnprocessableError extends APIError {}
export class ServerError extends APIError {}

export class RateLimitError extends APIError {
  /** Milliseconds to wait before the next try, when the gate said so. */
  readonly retryAfter: number | undefined

  constructor(answer: ErrorAnswer) {
    super(answer)
    this.retryAfter = retryAfterMs(answer.headers)
  }
}

export class ConnectionError extends AgentGateError {}
export class TimeoutError extends ConnectionError {}
export class WebhookVerificationError extends AgentGateError {}

const CLASSES: Readonly<Record<number, typeof APIError>> = {
  400: BadRequestError,
  401: AuthenticationError,
  402: InsufficientCreditsError,
  403: PermissionDeniedError,
  404: NotFoundError,
  409: ConflictError,
  422: UnprocessableError,
  429: RateLimitError,
}

/** The error for an answer outside 2xx; a body that is not the gate's error envelope still gives a usable one. */
export function errorFromAnswer(status: number, headers: Headers, body: string): APIError {
  const envelope = errorMember(body)
  const text = (key: string): string | undefined => {
    const value = envelope[key]
    return typeof value === 'string' ? value : undefined
  }
  const Class = CLASSES[status] ?? (status >= 500 ? ServerError : APIError)
  return new Class({
    status,
    headers,
    code: text('code') ?? `HTTP_${status}`,
    message: text('message') ?? `The server answered with status ${status}.`,
    details: isRecord(envelope.details) ? envelope.details : {},
    requestId: text('requestId') ?? headers.get('x-request-id') ?? undefined,
    retryable: typeof envelope.retryable === 'boolean' ? envelope.retryable : status === 429 || status >= 500,
    hint: text('hint'),
  })
}

/** `Retry-After` in milliseconds; the header holds seconds or an HTTP date. */
export function retryAfterMs(headers: Headers): number | undefined {
  const value = headers.get('retry-after')?.trim()
  if (!value) return undefined
  const seconds = Number(value)
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(value) - Date.now()
  return Number.isNaN(ms) ? undefined : Math.max(0, Math.round(ms))
}

function errorMember(body: string): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(body)
    return isRecord(parsed) && isRecord(parsed.error) ? parsed.error : {}
  } catch {
    return {}
  }
}

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
