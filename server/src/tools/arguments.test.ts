import { expect, test } from 'vitest'
import { GateError } from '../domain/error.ts'
import type { JsonObject } from '../domain/json.ts'
import { validateArguments } from './arguments.ts'

const tool = (properties: JsonObject, more: JsonObject = {}) => ({
  name: 'send',
  inputSchema: { type: 'object', properties, additionalProperties: false, ...more },
})

test('arguments that fit go on unchanged', () => {
  const args = { to: 'a@b.example', n: 3 }
  const checked = validateArguments(
    tool({ to: { type: 'string', format: 'email' }, n: { type: 'integer' } }),
    { arguments: args },
  )
  expect(checked).toEqual({ ok: true, arguments: args })
})

test('every mistake is told with its place, and nothing is coerced', () => {
  const schema = tool(
    {
      n: { type: 'integer' },
      kind: { enum: ['a', 'b'] },
      list: { type: 'array', items: { type: 'string' } },
    },
    { required: ['to'] },
  )
  const checked = validateArguments(
    {
      ...schema,
      inputSchema: {
        ...schema.inputSchema,
        properties: { ...schema.inputSchema.properties, to: { type: 'string' } },
      },
    },
    {
      arguments: { n: '3', kind: 'c', list: ['x', 1], 'a/b': 1 },
    },
  )
  expect(checked).toMatchObject({ ok: false, code: 'invalid_arguments' })
  if (checked.ok) return
  for (const line of [
    "required property 'to'",
    '/n must be integer',
    '["a","b"]',
    '/list/1 must be string',
    '/a~1b must NOT',
  ])
    expect(checked.content).toContain(line)
})

test('arguments that could not be read are told as such', () => {
  expect(validateArguments(tool({}), { arguments: null, malformed: 'not a JSON object: {' })).toEqual({
    ok: false,
    code: 'invalid_arguments',
    content: 'The arguments cannot be read: not a JSON object: {',
  })
  expect(validateArguments(tool({}), { arguments: null })).toMatchObject({ ok: false })
  expect(validateArguments(tool({}), { arguments: [1] })).toMatchObject({ ok: false })
})

test('two patterns of two schemas are not mistaken for each other', () => {
  const check = (pattern: string, value: string) =>
    validateArguments(tool({ v: { type: 'string', pattern }, w: { type: 'string', pattern: '^w+$' } }), {
      arguments: { v: value, w: 'w' },
    }).ok
  expect(check('^a+$', 'aaa')).toBe(true)
  expect(check('^a+$', 'bbb')).toBe(false)
  expect(check('^b+$', 'bbb')).toBe(true)
  expect(check('^b+$', 'aaa')).toBe(false)
})

test('a pattern that would take for ever takes no time', () => {
  const startedAt = performance.now()
  const schema = tool({ v: { type: 'string', pattern: '^(a+)+$' } })
  expect(validateArguments(schema, { arguments: { v: `${'a'.repeat(50_000)}!` } }).ok).toBe(false)
  expect(performance.now() - startedAt).toBeLessThan(2_000)
})

test.each<[string, JsonObject]>([
  ['an unknown keyword', { type: 'object', propertys: {} }],
  ['an unknown type', { type: 'obj' }],
  ['a remote reference', { $ref: 'https://example.com/schema.json' }],
  ['a pattern with look-around', { type: 'object', properties: { a: { type: 'string', pattern: '(?=a)' } } }],
  ['an unknown format', { type: 'object', properties: { a: { type: 'string', format: 'nonsense' } } }],
  ['a schema of a megabyte', { type: 'object', description: 'x'.repeat(2 ** 20) }],
])('%s makes a schema invalid', (_what, inputSchema) => {
  expect(() => validateArguments({ name: 'bad', inputSchema }, { arguments: {} })).toThrow(GateError)
})

test('schemas with the same $id do not meet', () => {
  const schema = (type: string) => ({ $id: 'https://a.example/x', ...tool({ v: { type } }).inputSchema })
  expect(validateArguments({ name: 'a', inputSchema: schema('string') }, { arguments: { v: 'x' } }).ok).toBe(
    true,
  )
  expect(validateArguments({ name: 'b', inputSchema: schema('integer') }, { arguments: { v: 'x' } }).ok).toBe(
    false,
  )
})
