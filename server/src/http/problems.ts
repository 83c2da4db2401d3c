import { type ErrorCode, GateError } from '../domain/error.ts'

/** One mistake in a request. */
export interface Problem {
  code: ErrorCode
  /** RFC 6901 pointer into the body, or the name of a query parameter or header. */
  field: string
  /** Follows the field in a sentence: `must be at most 100`. */
  message: string
}

const MOST_SHOWN = 50

/** One error about all mistakes of a request; mistakes of several kinds make it INVALID_REQUEST. */
export function invalid(problems: readonly Problem[]): GateError {
  const [first] = problems
  if (first === undefined) return new GateError('INVALID_REQUEST', 'The request is not valid.')
  const code = problems.every((problem) => problem.code === first.code) ? first.code : 'INVALID_REQUEST'
  const more = problems.length === 1 ? '' : ` (and ${problems.length - 1} more: see details.errors)`
  return new GateError(code, `${first.field || 'The body'} ${first.message}${more}.`, {
    details: { errors: problems.slice(0, MOST_SHOWN).map(({ field, message }) => ({ field, message })) },
  })
}

export const invalidField = (field: string, message: string): GateError =>
  invalid([{ code: 'INVALID_VALUE', field, message }])

/** Gathers mistakes, so that a caller hears of all of them at once. */
export class Problems {
  readonly #found: Problem[] = []

  add(field: string, message: string, code: ErrorCode = 'INVALID_VALUE'): void {
    this.#found.push({ code, field, message })
  }

  /** Does `parse`; what it refuses counts as a mistake of this request. */
  absorb(parse: () => unknown): void {
    try {
      parse()
    } catch (error) {
      if (!(error instanceof GateError) || error.kind !== 'invalid') throw error
      this.#found.push(...problemsOf(error))
    }
  }

  throwIfAny(): void {
    if (this.#found.length > 0) throw invalid(this.#found)
  }
}

function problemsOf({ code, message, details }: GateError): Problem[] {
  const errors = Array.isArray(details['errors']) ? details['errors'] : []
  if (errors.length === 0) return [{ code, field: '', message }]
  return errors.map((error: { field: string; message: string }) => ({ code, ...error }))
}
