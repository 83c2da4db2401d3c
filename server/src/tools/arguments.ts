import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { GateError } from '../domain/error.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../domain/json.ts'
import type { RequestedCall, ToolDefinition } from '../domain/tool-call.ts'
import { canonicalJson, sha256 } from '../lib/hash.ts'
import { storable } from '../lib/text.ts'
import { linearPattern } from './linear-pattern.ts'

/** Arguments that may go to the executor, or what the agent is told instead. */
export type CheckedArguments =
  | { ok: true; arguments: JsonObject }
  | { ok: false; code: 'invalid_arguments'; content: string }

const MAX_SCHEMA_CHARS = 64 * 1024
const MAX_COMPILED = 500
const MAX_ERRORS_TOLD = 10

/** Compiled schemas by hash, the longest unused one first. */
const compiled = new Map<string, ValidateFunction>()

/** Checks the arguments of a call against the tool's schema. Throws SCHEMA_INVALID for a schema that is none. */
export function validateArguments(
  tool: Pick<ToolDefinition, 'name' | 'inputSchema'>,
  call: Pick<RequestedCall, 'arguments' | 'malformed'>,
): CheckedArguments {
  if (call.malformed !== undefined) return invalid(`The arguments cannot be read: ${call.malformed}`)
  const validate = validatorOf(tool)
  if (validate(call.arguments) && isJsonObject(call.arguments)) return { ok: true, arguments: call.arguments }
  const errors = (validate.errors ?? []).slice(0, MAX_ERRORS_TOLD).map(told)
  return invalid([`The arguments do not fit the schema of ${tool.name}:`, ...errors].join('\n'))
}

const invalid = (content: string): CheckedArguments => ({
  ok: false,
  code: 'invalid_arguments',
  content: storable(content),
})

function told(error: ErrorObject<string, Record<string, JsonValue>>): string {
  const extra = error.params['additionalProperty'] ?? error.params['unevaluatedProperty']
  const named = typeof extra === 'string' ? `${error.instancePath}/${token(extra)}` : error.instancePath
  const allowed = error.params['allowedValues']
  const values = Array.isArray(allowed) ? `: ${JSON.stringify(allowed).slice(0, 300)}` : ''
  return `- ${named || '(the arguments)'} ${error.message ?? 'is invalid'}${values}`
}

/** A name as a token of a JSON pointer (RFC 6901). */
const token = (name: string): string => name.replaceAll('~', '~0').replaceAll('/', '~1')

function validatorOf(tool: Pick<ToolDefinition, 'name' | 'inputSchema'>): ValidateFunction {
  const text = canonicalJson(tool.inputSchema)
  const hash = sha256(text)
  const validate = compiled.get(hash) ?? compile(tool, text)
  compiled.delete(hash)
  compiled.set(hash, validate)
  for (const oldest of compiled.keys()) {
    if (compiled.size <= MAX_COMPILED) break
    compiled.delete(oldest)
  }
  return validate
}

function compile(tool: Pick<ToolDefinition, 'name' | 'inputSchema'>, text: string): ValidateFunction {
  if (text.length > MAX_SCHEMA_CHARS)
    throw new GateError(
      'SCHEMA_INVALID',
      `The schema of ${tool.name} is longer than ${MAX_SCHEMA_CHARS} characters.`,
    )
  try {
    // An instance of its own: an `$id` of one schema must not be seen by another.
    const ajv = new Ajv2020({ strict: true, allErrors: true, code: { regExp } })
    addFormats.default(ajv, { mode: 'fast' })
    return ajv.compile(tool.inputSchema)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new GateError('SCHEMA_INVALID', `The schema of ${tool.name} cannot be used: ${why}`, { cause })
  }
}

/** Ajv finds a compiled pattern again by its text: without one of its own every pattern would be the first. */
function regExp(source: string): { test(text: string): boolean; toString(): string } {
  const pattern = linearPattern(source)
  return { test: (text) => pattern.test(text), toString: () => `/${source}/u` }
}
regExp.code = 'new RegExp'
