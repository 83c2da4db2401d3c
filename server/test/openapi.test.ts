import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { generatedFiles } from '../../scripts/generate.ts'
import { endpointList } from '../src/contract/endpoints.ts'
import { type TSchema } from '../src/contract/schema.ts'
import { GateError } from '../src/domain/error.ts'
import { bodyCheck, queryCheck } from '../src/http/validation.ts'
import { asked, type Door, openDoor } from './harness/door.ts'

const run = promisify(execFile)
const ROOT = join(import.meta.dirname, '../..')

const command = (name: string, ...args: string[]): Promise<{ stdout: string; stderr: string }> =>
  run(process.execPath, [join(ROOT, 'node_modules', name), ...args], { cwd: ROOT, maxBuffer: 10_000_000 })

test.each(Object.entries(generatedFiles()))('%s is what the source makes of it', async (path, text) => {
  expect(await readFile(join(ROOT, path), 'utf8')).toBe(text)
})

test('every field of the API has a sentence', () => {
  const silent: string[] = []
  const walk = (schema: TSchema, place: string): void => {
    for (const [name, field] of Object.entries<TSchema>(schema['properties'] ?? {})) {
      const hasWords =
        field.description !== undefined || field.title !== undefined || field['properties'] !== undefined
      if (!hasWords) silent.push(`${place}.${name}`)
      walk(field, `${place}.${name}`)
    }
    if (schema['items']) walk(schema['items'], `${place}[]`)
    for (const variant of schema['oneOf'] ?? []) walk(variant, place)
  }
  for (const { id, body, query, answers } of endpointList) {
    if (body) walk(body, id)
    if (query) walk(query, id)
    for (const answer of Object.values(answers)) {
      if (answer.body && 'json' in answer.body) walk(answer.body.json, id)
    }
  }
  expect(silent).toEqual([])
})

test('every schema that a request is checked against is one', () => {
  const ajv = new Ajv2020()
  for (const { id, body, query } of endpointList) {
    for (const schema of [body, query]) if (schema) expect(ajv.validateSchema(schema), id).toBe(true)
    // Compiling throws an error of another kind.
    if (body) expect(() => bodyCheck(body)(null), id).toThrow(GateError)
    if (query) expect(() => queryCheck(query)(null), id).toThrow(GateError)
  }
})

describe('other people’s tools accept openapi.json', () => {
  test('redocly lint finds no fault', async () => {
    const { stdout } = await command('@redocly/cli/bin/cli.js', 'lint', 'openapi.json', '--format=json')
    const { totals } = JSON.parse(stdout.slice(stdout.indexOf('{')))
    expect(totals).toEqual({ errors: 0, warnings: 0, ignored: 0 })
  })

  test('openapi-typescript makes types of it that compile', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'agentgate-openapi-'))
    try {
      const types = join(folder, 'api.ts')
      await command('openapi-typescript/bin/cli.js', 'openapi.json', '-o', types)
      await command('typescript/bin/tsc', '--ignoreConfig', '--noEmit', '--strict', types)
      expect(await readFile(types, 'utf8')).toContain('createWorkOrder')
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})

describe('answers have the form that the table promises', () => {
  let door: Door
  beforeAll(async () => {
    door = await openDoor()
  })
  afterAll(() => door[Symbol.asyncDispose]())

  test.each(endpointList.filter(({ method }) => method === 'GET'))('$id', async ({ path, ids, answers }) => {
    const body = answers[200]?.body
    if (body === undefined || !('json' in body)) return
    const kind = ids?.['id']
    const url = door.url + path.replace('{id}', kind === undefined ? '' : await door.ownedId(kind))
    const { status, json } = await asked(url, { key: door.liveKey })
    expect(status).toBe(200)
    bodyCheck(body.json)(json)
  })
})
