import type { DriverFailure } from '../domain/agent.ts'
import type { ModelFailure } from './model-step.ts'

const MESSAGE_CHARS = 500

/** What stands in an error of the SDK, of a stream or of the network, wherever it stands. */
interface ErrorFacts {
  status: number | null
  message: string
  /** The provider's own word for the error. */
  type: string
  retryAfter: string | null
}

/** Statuses by the error type of a stream, which has no status of its own. */
const STATUS_BY_TYPE: Readonly<Record<string, number>> = {
  invalid_request_error: 400,
  authentication_error: 401,
  billing_error: 402,
  permission_error: 403,
  not_found_error: 404,
  request_too_large: 413,
  rate_limit_error: 429,
  rate_limit_exceeded: 429,
  insufficient_quota: 402,
  api_error: 500,
  server_error: 500,
  overloaded_error: 529,
}

/**
 * The failure that an error means. `now` (epoch milliseconds) reads a Retry-After that is a date; `hide` takes
 * secrets out of the provider's words.
 */
export function failureOf(error: unknown, now: number, hide: (text: string) => string): ModelFailure {
  const facts = factsOf(error)
  const { reason, retryable, what } = classOf(facts)
  const said = hide(facts.message).slice(0, MESSAGE_CHARS)
  return {
    outcome: 'failed',
    reason,
    message: said === '' ? `${what}.` : `${what}: ${said}`,
    retryable,
    retryAfterMs: facts.retryAfter === null ? null : retryAfterMs(facts.retryAfter, now),
    spent: null,
  }
}

interface ErrorClass {
  reason: DriverFailure
  retryable: boolean
  what: string
}

function classOf({ status, type }: ErrorFacts): ErrorClass {
  const model = (retryable: boolean, what: string): ErrorClass => ({ reason: 'model_error', retryable, what })
  if (status === 401 || status === 403)
    return {
      reason: 'provider_auth_failed',
      retryable: false,
      what: `The model provider refused the key (${status})`,
    }
  // OpenAI answers 429 also when the account is empty, which no waiting mends.
  if (status === 402 || type === 'insufficient_quota')
    return model(false, `The account with the model provider is out of credit (${status})`)
  if (status === 404) return model(false, 'The model provider does not know the model (404)')
  if (status === 429) return model(true, 'The model provider limits the rate (429)')
  if (status === 408 || status === 409) return model(true, `The model provider asks to try again (${status})`)
  if (status !== null && status >= 500) return model(true, `The model provider failed (${status})`)
  if (status !== null && status >= 400)
    return model(false, `The model provider refused the request (${status})`)
  if (type === 'AI_InvalidPromptError' || type === 'AI_UnsupportedFunctionalityError')
    return model(false, 'The conversation cannot be put to this model')
  return model(true, 'The connection to the model provider broke')
}

function factsOf(error: unknown): ErrorFacts {
  const outer = recordOf(error)
  // A chat stream wraps its error once more: { error: { message, type } }.
  const inner = recordOf(outer['error'])
  const body = recordOf(recordOf(outer['data'])['error'])
  const type = firstText(
    body['code'],
    body['type'],
    inner['code'],
    inner['type'],
    outer['code'],
    outer['type'],
    outer['name'],
  )
  const status =
    firstStatus(outer['statusCode'], outer['code'], inner['code']) ?? STATUS_BY_TYPE[type] ?? null
  const headers = recordOf(outer['responseHeaders'])
  const inMs = Number(headers['retry-after-ms'])
  return {
    status,
    message: firstText(outer['message'], inner['message']),
    type,
    retryAfter: Number.isFinite(inMs) ? String(inMs / 1000) : firstText(headers['retry-after']) || null,
  }
}

const recordOf = (value: unknown): Record<string, unknown> =>
  // Any object can be read by name; what is found is checked again.
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}

const firstText = (...values: unknown[]): string =>
  values.find((value): value is string => typeof value === 'string' && value !== '') ?? ''

const firstStatus = (...values: unknown[]): number | null =>
  values.map(Number).find((value) => Number.isInteger(value) && value >= 400 && value <= 599) ?? null

/** Seconds or an HTTP date, as RFC 9110 has it. */
function retryAfterMs(text: string, now: number): number | null {
  const seconds = Number(text)
  if (Number.isFinite(seconds)) return Math.max(0, Math.round(seconds * 1000))
  const at = Date.parse(text)
  return Number.isNaN(at) ? null : Math.max(0, at - now)
}
