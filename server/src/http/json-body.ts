import { GateError } from '../domain/error.ts'
import { storable } from '../lib/text.ts'

const MOST_LEVELS = 64

/** What could be an escaped NUL or half of a surrogate pair. */
const SUSPICIOUS = /\\u(?:0000|d[89a-f])/i

/**
 * Reads a JSON body. Nothing is an empty body; text that PostgreSQL could not keep becomes U+FFFD. Throws `GateError`
 * INVALID_REQUEST for anything that is not JSON, is nested too deeply, or tries to reach a prototype.
 */
export function parseJsonBody(text: string): unknown {
  if (text.trim() === '') return undefined
  const value = parse(text)
  check(value, 0)
  return SUSPICIOUS.test(text) ? mended(value) : value
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : ''
    throw new GateError('INVALID_REQUEST', `The body is not JSON: ${storable(reason)}.`, { cause })
  }
}

function check(value: unknown, depth: number): void {
  if (typeof value !== 'object' || value === null) return
  if (depth >= MOST_LEVELS) {
    throw new GateError('INVALID_REQUEST', `The body is nested more than ${MOST_LEVELS} levels deep.`)
  }
  if (Object.hasOwn(value, '__proto__')) {
    throw new GateError('INVALID_REQUEST', 'The body has a field `__proto__`, which is not allowed anywhere.')
  }
  for (const member of Object.values(value)) check(member, depth + 1)
}

function mended(value: unknown): unknown {
  if (typeof value === 'string') return storable(value)
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(mended)
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [storable(key), mended(member)]))
}
