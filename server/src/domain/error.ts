/**
 * What went wrong for a caller. A code has a kind; only `http/errors.ts` maps kinds and codes to status,
 * and only `unavailable` is worth a retry of the same call.
 */
export type ErrorKind =
  | 'invalid'
  | 'unauthenticated'
  | 'payment'
  | 'denied'
  | 'not_found'
  | 'method'
  | 'conflict'
  | 'gone'
  | 'precondition'
  | 'too_large'
  | 'media_type'
  | 'unprocessable'
  | 'limited'
  | 'internal'
  | 'unavailable'

/** Every code a client can meet. Codes are forever: add one, never rename one. */
export const ERROR_KINDS = {
  INVALID_REQUEST: 'invalid',
  MISSING_FIELD: 'invalid',
  INVALID_FORMAT: 'invalid',
  INVALID_VALUE: 'invalid',
  UNKNOWN_FIELD: 'invalid',
  MISSING_API_KEY: 'unauthenticated',
  INVALID_API_KEY: 'unauthenticated',
  INVALID_API_KEY_FORMAT: 'unauthenticated',
  EXPIRED_API_KEY: 'unauthenticated',
  INSUFFICIENT_CREDITS: 'payment',
  BUDGET_EXCEEDED: 'payment',
  INSUFFICIENT_PERMISSIONS: 'denied',
  POLICY_DENIED: 'denied',
  ORGANIZATION_SUSPENDED: 'denied',
  RESOURCE_NOT_FOUND: 'not_found',
  METHOD_NOT_ALLOWED: 'method',
  CONFLICT: 'conflict',
  RUN_FINISHED: 'conflict',
  TOOL_CALL_RESOLVED: 'conflict',
  APPROVAL_DECIDED: 'conflict',
  APPROVAL_STALE: 'conflict',
  EFFECTS_EXIST: 'conflict',
  IDEMPOTENCY_IN_FLIGHT: 'conflict',
  EVENTS_PURGED: 'gone',
  PRECONDITION_FAILED: 'precondition',
  PAYLOAD_TOO_LARGE: 'too_large',
  UNSUPPORTED_MEDIA_TYPE: 'media_type',
  IDEMPOTENCY_KEY_REUSED: 'unprocessable',
  TOOL_RESULT_INVALID: 'unprocessable',
  SCHEMA_INVALID: 'unprocessable',
  RATE_LIMITED: 'limited',
  QUEUE_FULL: 'limited',
  TOO_MANY_STREAMS: 'limited',
  INTERNAL_ERROR: 'internal',
  SERVICE_UNAVAILABLE: 'unavailable',
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof ERROR_KINDS

export interface GateErrorOptions {
  /** Facts a program can act on; shown to the client as `error.details`. */
  details?: Record<string, unknown>
  /** One sentence that says what to do. */
  hint?: string
  cause?: unknown
}

/** The caller's or the world's fault, with a code from the closed table. */
export class GateError extends Error {
  override readonly name = 'GateError'
  readonly code: ErrorCode
  readonly details: Record<string, unknown>
  readonly hint: string | undefined
  constructor(code: ErrorCode, message: string, options: GateErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.details = options.details ?? {}
    this.hint = options.hint
  }
  get kind(): ErrorKind {
    return ERROR_KINDS[this.code]
  }
}

export const notFound = (what: string): GateError =>
  new GateError('RESOURCE_NOT_FOUND', `${what} does not exist.`)
