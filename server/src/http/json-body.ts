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
  return clean(value, { depth: 0, mend: SUSPICIOUS.test(text) })
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : ''
    throw new GateError('INVALID_REQUEST', `The body is not JSON: ${storable(reason)}.`, { cause })
  }
}

function clean(value: unknown, at: { depth: number; mend: boolean }): unknown {
  if (typeof value === 'string') return at.mend ? storable(value) : value
  if (typeof value !== 'object' || value === null) return value
  if (at.depth >= MOST_LEVELS) {
    throw new GateError('INVALID_REQUEST', `The body is nested more than ${MOST_LEVELS} levels deep.`)
  }
  const below = { ...at, depth: at.depth + 1 }
  if (Array.isArray(value)) return value.map((item) => clean(item, below))
  if (Object.hasOwn(value, '__proto__')) {
    throw new GateError('INVALID_REQUEST', 'The body has a field `__proto__`, which is not allowed anywhere.')
  }
  const entries = Object.entries(value)
  return Object.fromEntries(
    entries.map(([key, member]) => [at.mend ? storable(key) : key, clean(member, below)]),
  )
}
