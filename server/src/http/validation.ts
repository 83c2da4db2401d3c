import type { ErrorObject, ValidateFunction } from 'ajv/dist/2020.js'
import { Ajv2020 } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import type { TSchema } from '../contract/schema.ts'
import type { ErrorCode } from '../domain/error.ts'
import { invalid, type Problem } from './problems.ts'

const COMMON = {
  // The schemas are our own, and a test holds them against the meta-schema; compiling that is half of a start.
  validateSchema: false,
  meta: false,
  allErrors: true,
  verbose: true,
  allowUnionTypes: true,
  discriminator: true,
  strictRequired: false,
}

/** Bodies are taken as they are; query strings are text and have to be read as what they mean. */
const bodies = new Ajv2020({ ...COMMON, coerceTypes: false, useDefaults: false })
const queries = new Ajv2020({ ...COMMON, coerceTypes: 'array', useDefaults: true })
for (const ajv of [bodies, queries]) {
  formats.default(ajv, ['date-time'])
  ajv.addKeyword({ keyword: 'x-later', schemaType: 'array' })
}

/** Checks `value` against a schema, which is compiled when it is first needed; throws `GateError` with every mistake. */
export type Check = (value: unknown) => void

export function bodyCheck(schema: TSchema): Check {
  return (value) => {
    const validate = bodies.compile(schema)
    if (!validate(value)) throw invalid(problemsOf(validate))
  }
}

/** Also turns the text of the parameters into numbers and booleans, in place, and fills in defaults. */
export function queryCheck(schema: TSchema): Check {
  return (value) => {
    const validate = queries.compile(schema)
    if (validate(value)) return
    throw invalid(problemsOf(validate).map(({ field, ...rest }) => ({ ...rest, field: field.slice(1) })))
  }
}

/** One mistake for each field: a value of the wrong type fits no limit either. */
function problemsOf({ errors }: ValidateFunction): Problem[] {
  const byField = new Map<string, Problem>()
  for (const error of errors ?? []) {
    const problem = problemOf(error, error.instancePath)
    if (!byField.has(problem.field)) byField.set(problem.field, problem)
  }
  return [...byField.values()]
}

function problemOf(error: ErrorObject, at: string): Problem {
  const { keyword, params } = error
  switch (keyword) {
    case 'required':
      return { code: 'MISSING_FIELD', field: below(at, params['missingProperty']), message: 'is required' }
    case 'additionalProperties':
      return {
        code: 'UNKNOWN_FIELD',
        field: below(at, params['additionalProperty']),
        message: 'is not known here',
      }
    case 'discriminator':
      return tagProblem(error, at)
    case 'enum':
      return {
        code: 'INVALID_VALUE',
        field: at,
        message: `must be one of ${params['allowedValues'].join(', ')}`,
      }
    default:
      return { code: CODES[keyword] ?? 'INVALID_VALUE', field: at, message: sentenceOf(error) }
  }
}

const CODES: Readonly<Record<string, ErrorCode>> = {
  type: 'INVALID_FORMAT',
  format: 'INVALID_FORMAT',
  pattern: 'INVALID_FORMAT',
}

function tagProblem({ params, parentSchema }: ErrorObject, at: string): Problem {
  const { tag, tagValue } = params
  const field = below(at, tag)
  if (tagValue === undefined) return { code: 'MISSING_FIELD', field, message: 'is required' }
  const later: unknown = parentSchema?.['x-later']
  const isPromised = Array.isArray(later) && later.includes(tagValue)
  const message = isPromised ? `\`${tagValue}\` is not available yet` : `names no known ${tag}`
  return { code: 'INVALID_VALUE', field, message }
}

function sentenceOf({ keyword, params, message, parentSchema }: ErrorObject): string {
  if (keyword === 'minLength' && params['limit'] === 1) return 'must not be empty'
  if (keyword === 'pattern') return `must match ${parentSchema?.['pattern']}`
  if (keyword === 'format')
    return 'must be an ISO 8601 time with a time zone, such as 2026-11-21T09:30:00.000Z'
  return (message ?? 'is not valid').replace('NOT', 'not')
}

const below = (pointer: string, key: string): string =>
  `${pointer}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`
