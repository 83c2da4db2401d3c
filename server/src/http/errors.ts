import { type ErrorCode, type ErrorKind, GateError } from '../domain/error.ts'
import { DatabaseError } from '../storage/database-error.ts'

export const STATUS_OF_KIND: Readonly<Record<ErrorKind, number>> = {
  invalid: 400,
  unauthenticated: 401,
  payment: 402,
  denied: 403,
  not_found: 404,
  method: 405,
  conflict: 409,
  gone: 410,
  precondition: 412,
  too_large: 413,
  media_type: 415,
  unprocessable: 422,
  limited: 429,
  internal: 500,
  unavailable: 503,
}

/** What went wrong, whoever threw it. */
export function asGateError(thrown: unknown): GateError {
  if (thrown instanceof GateError) return thrown
  if (thrown instanceof DatabaseError && thrown.isTransient) {
    return new GateError('SERVICE_UNAVAILABLE', 'The database does not answer right now.', { cause: thrown })
  }
  if (thrown instanceof Error && 'code' in thrown) {
    const known = FRAMEWORK[String(thrown.code)]
    if (known !== undefined) return new GateError(known.code, known.message, { cause: thrown })
  }
  if (isClientFault(thrown))
    return new GateError('INVALID_REQUEST', 'The request cannot be read.', { cause: thrown })
  return new GateError('INTERNAL_ERROR', 'Something went wrong on our side.', { cause: thrown })
}

/** What the HTTP framework refuses by itself. */
const FRAMEWORK: Readonly<Record<string, { code: ErrorCode; message: string }>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: { code: 'PAYLOAD_TOO_LARGE', message: 'The body is larger than 1 MB.' },
  FST_ERR_CTP_INVALID_MEDIA_TYPE: {
    code: 'UNSUPPORTED_MEDIA_TYPE',
    message: 'Bodies must be JSON, sent as `Content-Type: application/json`.',
  },
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: {
    code: 'INVALID_REQUEST',
    message: 'The body is not as long as Content-Length says.',
  },
  FST_ERR_BAD_URL: { code: 'RESOURCE_NOT_FOUND', message: 'There is nothing at this address.' },
}

const isClientFault = (thrown: unknown): boolean =>
  thrown instanceof Error &&
  'statusCode' in thrown &&
  typeof thrown.statusCode === 'number' &&
  thrown.statusCode >= 400 &&
  thrown.statusCode < 500

/** Whether the same request may succeed later, and does no harm when it is sent again under the same key. */
const isRetryable = ({ code, kind }: GateError): boolean =>
  kind === 'unavailable' || kind === 'limited' || kind === 'internal' || code === 'IDEMPOTENCY_IN_FLIGHT'

export interface ErrorAnswer {
  status: number
  headers: Record<string, string>
  body: string
}

/** The answer to a refused request: our envelope, or RFC 9457 for who asks for it by name. */
export function errorAnswer(
  error: GateError,
  { requestId, accept }: { requestId: string; accept: string },
): ErrorAnswer {
  const status = STATUS_OF_KIND[error.kind]
  const { code, message, details, hint } = error
  const common = { details, requestId, retryable: isRetryable(error), ...(hint !== undefined && { hint }) }
  const isProblem = /\bapplication\/problem\+json\b/i.test(accept)
  const body = isProblem
    ? { type: `/docs#${code}`, title: code, status, detail: message, code, ...common }
    : { error: { code, message, ...common } }
  const contentType = isProblem ? 'application/problem+json' : 'application/json; charset=utf-8'
  return {
    status,
    headers: { 'content-type': contentType, ...headersFor(error) },
    body: JSON.stringify(body),
  }
}

function headersFor({ kind, code, details }: GateError): Record<string, string> {
  if (kind === 'unauthenticated') {
    return { 'www-authenticate': code === 'MISSING_API_KEY' ? 'Bearer' : 'Bearer error="invalid_token"' }
  }
  if (code === 'IDEMPOTENCY_IN_FLIGHT' || kind === 'unavailable') return { 'retry-after': '1' }
  if (kind === 'method') return { allow: String(details['allow']) }
  return {}
}
