import { expect, test } from 'vitest'
import { GateError } from '../domain/error.ts'
import type { JsonValue } from '../domain/json.ts'
import { parseScript } from './script.ts'

function refusal(value: JsonValue): unknown {
  try {
    parseScript(value, '/input')
  } catch (error) {
    if (error instanceof GateError) return { code: error.code, ...error.details }
    throw error
  }
  return 'accepted'
}

test('a script is read as it was written', () => {
  const steps = [
    { text: 'a', calls: [{ tool: 'read_file', arguments: { path: 'x' } }], delayMs: 5 },
    { fail: { reason: 'model_error', message: 'broken' } },
  ]
  expect(parseScript({ steps }, '')).toEqual({ steps })
  expect(parseScript({ steps: [] }, '')).toEqual({ steps: [] })
})

test('missing arguments are none', () => {
  expect(parseScript({ steps: [{ calls: [{ tool: 'finish' }] }] }, '')).toEqual({
    steps: [{ calls: [{ tool: 'finish', arguments: {} }] }],
  })
})

const call = (value: JsonValue): JsonValue => ({ steps: [{ calls: [value] }] })

test.each<[string, JsonValue, string, string]>([
  ['no object', 'steps', 'INVALID_FORMAT', '/input'],
  ['no steps', {}, 'MISSING_FIELD', '/input/steps'],
  ['an unknown field', { steps: [], 'a/b~': 1 }, 'UNKNOWN_FIELD', '/input/a~1b~0'],
  ['steps that are no list', { steps: {} }, 'INVALID_FORMAT', '/input/steps'],
  ['a thousand and one steps', { steps: Array(1001).fill({}) }, 'INVALID_VALUE', '/input/steps'],
  ['a text of a megabyte', { steps: [{ text: 'é'.repeat(33_000) }] }, 'INVALID_VALUE', '/input/steps/0/text'],
  ['a delay below nothing', { steps: [{}, { delayMs: -1 }] }, 'INVALID_VALUE', '/input/steps/1/delayMs'],
  ['half a millisecond', { steps: [{ delayMs: 0.5 }] }, 'INVALID_VALUE', '/input/steps/0/delayMs'],
  ['a call without a tool', call({}), 'MISSING_FIELD', '/input/steps/0/calls/0/tool'],
  ['a tool that cannot be', call({ tool: 'rm -rf' }), 'INVALID_FORMAT', '/input/steps/0/calls/0/tool'],
  [
    'a list of arguments',
    call({ tool: 'x', arguments: [] }),
    'INVALID_FORMAT',
    '/input/steps/0/calls/0/arguments',
  ],
  [
    'an unknown failure',
    { steps: [{ fail: { reason: 'boom', message: '' } }] },
    'INVALID_VALUE',
    '/input/steps/0/fail/reason',
  ],
])('%s is refused with its place', (_what, value, code, field) => {
  expect(refusal(value)).toMatchObject({ code, errors: [{ field }] })
})
