import type { DriverContext, DriverFailure, Script, ScriptStep } from '../domain/agent.ts'
import { type ErrorCode, GateError } from '../domain/error.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../domain/json.ts'
import { FINISH_TOOL, outcomesOf, stepsOf } from './journal.ts'

const MAX_STEPS = 1000
const MAX_CALLS = 100
const MAX_TEXT_BYTES = 64 * 1024
const MAX_DELAY_MS = 60 * 60 * 1000
const FAILURES: readonly DriverFailure[] = [
  'model_error',
  'provider_auth_failed',
  'agent_error',
  'driver_unavailable',
]

/**
 * Reads a script, strictly. `pointer` is where the value stands in the request; a mistake is a GateError whose
 * `details.errors` names the field by its JSON pointer.
 */
export function parseScript(value: JsonValue, pointer: string): Script {
  const object = closedObject(value, pointer, ['steps'])
  const steps = arrayAt(object['steps'], `${pointer}/steps`, MAX_STEPS)
  return { steps: steps.map((step, at) => parseStep(step, `${pointer}/steps/${at}`)) }
}

function parseStep(value: JsonValue, pointer: string): ScriptStep {
  const object = closedObject(value, pointer, ['text', 'calls', 'delayMs', 'fail'])
  const { text, calls, delayMs, fail } = object
  const parsed: ScriptStep = {}
  if (text !== undefined) parsed.text = textAt(text, `${pointer}/text`)
  if (calls !== undefined) {
    const given = arrayAt(calls, `${pointer}/calls`, MAX_CALLS)
    parsed.calls = given.map((call, at) => parseCall(call, `${pointer}/calls/${at}`))
  }
  if (delayMs !== undefined) parsed.delayMs = delayAt(delayMs, `${pointer}/delayMs`)
  if (fail !== undefined) parsed.fail = parseFail(fail, `${pointer}/fail`)
  return parsed
}

function parseCall(value: JsonValue, pointer: string): { tool: string; arguments: JsonObject } {
  const object = closedObject(value, pointer, ['tool', 'arguments'])
  const tool = textAt(object['tool'], `${pointer}/tool`)
  if (!/^[a-z0-9_]{1,64}$/.test(tool))
    throw refused('INVALID_FORMAT', `${pointer}/tool`, 'must be a tool name: [a-z0-9_], at most 64')
  const given = object['arguments'] ?? {}
  if (!isJsonObject(given)) throw refused('INVALID_FORMAT', `${pointer}/arguments`, 'must be an object')
  return { tool, arguments: given }
}

function parseFail(value: JsonValue, pointer: string): { reason: DriverFailure; message: string } {
  const object = closedObject(value, pointer, ['reason', 'message'])
  const named = textAt(object['reason'], `${pointer}/reason`)
  const reason = FAILURES.find((failure) => failure === named)
  if (reason === undefined)
    throw refused('INVALID_VALUE', `${pointer}/reason`, `must be one of ${FAILURES.join(', ')}`)
  return { reason, message: textAt(object['message'], `${pointer}/message`) }
}

function closedObject(value: JsonValue, pointer: string, fields: readonly string[]): JsonObject {
  if (!isJsonObject(value)) throw refused('INVALID_FORMAT', pointer, 'must be an object')
  const unknown = Object.keys(value).find((key) => !fields.includes(key))
  if (unknown === undefined) return value
  const token = unknown.replaceAll('~', '~0').replaceAll('/', '~1')
  throw refused('UNKNOWN_FIELD', `${pointer}/${token}`, `is unknown; known are ${fields.join(', ')}`)
}

function arrayAt(value: JsonValue | undefined, pointer: string, most: number): JsonValue[] {
  if (value === undefined) throw refused('MISSING_FIELD', pointer, 'is missing')
  if (!Array.isArray(value)) throw refused('INVALID_FORMAT', pointer, 'must be an array')
  if (value.length > most) throw refused('INVALID_VALUE', pointer, `must have at most ${most} items`)
  return value
}

function textAt(value: JsonValue | undefined, pointer: string): string {
  if (value === undefined) throw refused('MISSING_FIELD', pointer, 'is missing')
  if (typeof value !== 'string') throw refused('INVALID_FORMAT', pointer, 'must be a string')
  if (Buffer.byteLength(value) > MAX_TEXT_BYTES)
    throw refused('INVALID_VALUE', pointer, `must have at most ${MAX_TEXT_BYTES} bytes`)
  return value
}

function delayAt(value: JsonValue, pointer: string): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= MAX_DELAY_MS)
    return value
  throw refused('INVALID_VALUE', pointer, `must be a whole number from 0 to ${MAX_DELAY_MS}`)
}

const refused = (code: ErrorCode, field: string, what: string): GateError =>
  new GateError(code, `${field} ${what}.`, { details: { errors: [{ field, message: what }] } })

/**
 * What a test key without a script gets: list, read the README or else the first file, one small edit, finish.
 * The file to read is taken from the journaled listing; steps whose tool is not offered are left out.
 */
export function builtInScript(context: Pick<DriverContext, 'runId' | 'tools' | 'journal'>): Script {
  const file = fileToRead(context.journal)
  const steps: ScriptStep[] = [
    step('I look at what is here.', 'list_files', {}),
    ...(file === null ? [] : [step(`I read ${file}.`, 'read_file', { path: file })]),
    step('I leave a note.', 'write_file', {
      path: 'AGENTGATE.md',
      content: `This line was written by the scripted agent in ${context.runId}.\n`,
    }),
    step('That is all.', FINISH_TOOL, { summary: 'Listed the files, read one and wrote AGENTGATE.md.' }),
  ]
  const offered = new Set(context.tools.map((tool) => tool.name))
  const usable = steps.filter(({ calls }) => calls?.every(({ tool }) => offered.has(tool)))
  return { steps: usable.length > 0 ? usable : [{ text: 'The scripted agent was here.' }] }
}

const step = (text: string, tool: string, args: JsonObject): ScriptStep => ({
  text,
  calls: [{ tool, arguments: args }],
})

/** A file named in the first listing: one path a line, folders end in a slash. */
function fileToRead(journal: DriverContext['journal']): string | null {
  const listing = stepsOf(journal)[0]?.calls.find((call) => call.name === 'list_files')
  const outcome = listing && outcomesOf(journal).get(listing.id)
  if (outcome?.ok !== true) return null
  const files = outcome.content.split('\n').filter((line) => /^[^\s()]+$/.test(line) && !line.endsWith('/'))
  return files.find((file) => /^readme/i.test(file)) ?? files[0] ?? null
}
