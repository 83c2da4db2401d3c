import { describe, expect, test } from 'vitest'
import { GateError } from '../domain/error.ts'
import { parseGatePlan } from './parse-plan.ts'
import { resolveGatePlan } from './plan.ts'
import { GatePlanInvalid } from './plan-file.ts'

const repository = (files: Record<string, string>) => ({
  readFile: async (path: string) => (Object.hasOwn(files, path) ? files[path] : undefined),
  listFiles: async () => Object.keys(files),
})
const resolve = (files: Record<string, string>, requested?: unknown) =>
  resolveGatePlan({ requested, ...repository(files) })
const summary = (plan: Awaited<ReturnType<typeof resolve>>) => ({
  source: plan.source,
  setup: plan.setup,
  commands: plan.gates.flatMap((gate) => (gate.check.type === 'command' ? [gate.check.run] : [])),
})
const npm = (manifest: object) => ({ 'package.json': JSON.stringify(manifest) })

function problemsOf(value: unknown, pointer = '/gatePlan') {
  try {
    parseGatePlan(value, pointer)
  } catch (error) {
    if (error instanceof GateError) return { code: error.code, errors: error.details.errors }
    throw error
  }
  return null
}
const gate = (more: object) => ({
  gates: [{ name: 'a', level: 'L0', check: { type: 'command', run: 'true' }, ...more }],
})
const check = (value: unknown) => gate({ check: value })

describe('a plan in a request', () => {
  test('is completed with the defaults', () => {
    expect(parseGatePlan(gate({}), '').gates).toEqual([
      {
        name: 'a',
        level: 'L0',
        check: { type: 'command', run: 'true' },
        timeoutSeconds: 300,
        onFailure: 'iterate',
        maxAttempts: null,
      },
    ])
  })

  test.each([
    ['an unknown preset', 'fast', 'INVALID_VALUE', ['/gatePlan']],
    ['another type', 7, 'INVALID_FORMAT', ['/gatePlan']],
    ['no gates and no preset', {}, 'MISSING_FIELD', ['/gatePlan/gates']],
    ['an unknown field', { preset: 'none', 'a/b~c': 1 }, 'UNKNOWN_FIELD', ['/gatePlan/a~1b~0c']],
    ['an unknown gate field', gate({ retries: 1 }), 'UNKNOWN_FIELD', ['/gatePlan/gates/0/retries']],
    [
      'an unknown check field',
      check({ type: 'command', run: 'x', shell: 'zsh' }),
      'UNKNOWN_FIELD',
      ['/gatePlan/gates/0/check/shell'],
    ],
    ['an unknown check', check({ type: 'lint' }), 'INVALID_VALUE', ['/gatePlan/gates/0/check/type']],
    ['an unknown level', gate({ level: 'L9' }), 'INVALID_VALUE', ['/gatePlan/gates/0/level']],
    ['a missing command', check({ type: 'command' }), 'MISSING_FIELD', ['/gatePlan/gates/0/check/run']],
    [
      'an empty command',
      check({ type: 'command', run: ' ' }),
      'INVALID_VALUE',
      ['/gatePlan/gates/0/check/run'],
    ],
    ['a timeout of 0', gate({ timeoutSeconds: 0 }), 'INVALID_VALUE', ['/gatePlan/gates/0/timeoutSeconds']],
    [
      'a timeout of 3601',
      gate({ timeoutSeconds: 3601 }),
      'INVALID_VALUE',
      ['/gatePlan/gates/0/timeoutSeconds'],
    ],
    [
      'a timeout of 1.5',
      gate({ timeoutSeconds: 1.5 }),
      'INVALID_FORMAT',
      ['/gatePlan/gates/0/timeoutSeconds'],
    ],
    [
      'an unknown consequence',
      gate({ onFailure: 'retry' }),
      'INVALID_VALUE',
      ['/gatePlan/gates/0/onFailure'],
    ],
    ['no attempts', gate({ maxAttempts: 0 }), 'INVALID_VALUE', ['/gatePlan/gates/0/maxAttempts']],
    ['a name of other characters', gate({ name: 'a|b' }), 'INVALID_FORMAT', ['/gatePlan/gates/0/name']],
    ['gates under preset none', { preset: 'none', gates: [] }, 'INVALID_VALUE', ['/gatePlan/preset']],
    [
      'a forbid without anything',
      check({ type: 'forbid' }),
      'MISSING_FIELD',
      ['/gatePlan/gates/0/check/patterns'],
    ],
    [
      'no required files',
      check({ type: 'files', required: [] }),
      'INVALID_VALUE',
      ['/gatePlan/gates/0/check/required'],
    ],
    [
      'a look-around',
      check({ type: 'forbid', patterns: ['a(?=b)'] }),
      'INVALID_VALUE',
      ['/gatePlan/gates/0/check/patterns/0'],
    ],
    [
      'a huge pattern',
      check({ type: 'forbid', patterns: ['((a?){30}){300}'] }),
      'INVALID_VALUE',
      ['/gatePlan/gates/0/check/patterns/0'],
    ],
    [
      'a path out of the tree',
      check({ type: 'files', required: ['a/../../b'] }),
      'INVALID_VALUE',
      ['/gatePlan/gates/0/check/required/0'],
    ],
    [
      'mistakes of two kinds',
      { gates: [{}], extra: 1 },
      'INVALID_REQUEST',
      ['/gatePlan/extra', '/gatePlan/gates/0/name', '/gatePlan/gates/0/level', '/gatePlan/gates/0/check'],
    ],
  ])('is refused for %s, naming the place', (_what, value, code, fields) => {
    const found = problemsOf(value)
    expect(found?.code).toBe(code)
    expect(found?.errors).toEqual(fields.map((field) => ({ field, message: expect.any(String) })))
  })

  test('is refused when two gates would share a report', () => {
    const { gates } = gate({})
    expect(problemsOf({ gates: [...gates, { ...gates[0], name: 'A' }] })?.code).toBe('INVALID_VALUE')
  })

  test('has at most 50 gates', () => {
    const many = (count: number) => ({
      gates: Array.from({ length: count }, (_, n) => ({ ...gate({}).gates[0], name: `g${n}` })),
    })
    expect(problemsOf(many(50))).toBeNull()
    expect(problemsOf(many(51))?.errors).toEqual([{ field: '/gatePlan/gates', message: expect.any(String) }])
  })

  test.each([
    gate({ level: 'L2' }),
    gate({ level: 'L3' }),
    check({ type: 'blackbox' }),
    { preset: 'default', levels: ['L3'] },
  ])('says what is not available yet (%#)', (value) => {
    expect(JSON.stringify(problemsOf(value)?.errors)).toContain('not available yet')
  })

  test('goes before the file and the tooling of the repository', async () => {
    const files = { ...npm({ scripts: { test: 'x' } }), 'agentgate.yaml': 'gates: []' }
    expect(summary(await resolve(files, gate({})))).toEqual({
      source: 'request',
      setup: [],
      commands: ['true'],
    })
  })

  test('none asks for no gates', async () => {
    const plan = await resolve(npm({ scripts: { test: 'x' } }), 'none')
    expect(plan).toEqual({ source: 'none', strict: false, setup: [], gates: [] })
  })

  test('strict keeps what the repository offers', async () => {
    const plan = await resolve(npm({ scripts: { test: 'x' } }), 'strict')
    expect(plan.strict).toBe(true)
    expect(summary(plan).commands).toEqual(['npm test'])
  })

  test('levels and setup narrow what the repository offers', async () => {
    const plan = await resolve(npm({ scripts: { test: 'x' } }), {
      preset: 'default',
      levels: ['L1'],
      setup: ['./prepare'],
    })
    expect(plan.gates.map((each) => each.name)).toEqual(['npm test'])
    expect(plan.setup).toEqual(['./prepare'])
  })
})

describe("a plan in the repository's file", () => {
  const yaml =
    'setup: [npm ci]\ngates:\n  - name: unit\n    level: L1\n    check: { type: command, run: make unit }\n'

  test.each(['agentgate.yaml', 'agentgate.yml', 'verify.yaml'])('is read from %s', async (path) => {
    expect(summary(await resolve({ [path]: yaml }))).toEqual({
      source: 'repository',
      setup: ['npm ci'],
      commands: ['make unit'],
    })
  })

  const bomb = `a: &a [x, x, x, x, x, x, x, x, x]\n${['b', 'c', 'd', 'e', 'f', 'g', 'h', 'i']
    .map((name, n) => `${name}: &${name} [${Array(9).fill(`*${'abcdefgh'[n]}`).join(', ')}]`)
    .join('\n')}\n`

  test.each([
    ['an unknown gate', 'gates: [{name: x, level: L0, check: {type: lint}}]', '/gates/0/check/type'],
    ['no YAML', 'gates: [', 'agentgate.yaml'],
    ['an empty file', '', 'must be an object'],
    ['two documents', 'preset: none\n---\npreset: none', 'agentgate.yaml'],
    ['aliases that multiply', bomb, 'lias'],
    ['deep nesting', '['.repeat(16_000), 'agentgate.yaml'],
    ['a huge file', `# ${'x'.repeat(40_000)}`, '16384'],
    ['a tag that makes objects', 'gates: !!js/function "x"', 'agentgate.yaml'],
  ])('is refused for %s, with a sentence that names the file', async (_what, text, part) => {
    const refusal = await resolve({ 'agentgate.yaml': text }).then(
      () => null,
      (error: unknown) => error,
    )
    expect(refusal).toBeInstanceOf(GatePlanInvalid)
    expect(String(refusal)).toContain('agentgate.yaml')
    expect(String(refusal)).toContain(part)
  })

  test('with many keys is read in a moment', async () => {
    const keys = Array.from({ length: 4_000 }, (_, n) => `k${n}: 1`).join('\n')
    const startedAt = performance.now()
    await expect(resolve({ 'agentgate.yaml': keys.slice(0, 16_000) })).rejects.toBeInstanceOf(GatePlanInvalid)
    expect(performance.now() - startedAt).toBeLessThan(5_000)
  })
})

describe('a detected plan', () => {
  test.each([
    ['nothing', { 'README.md': '' }, { source: 'none', setup: [], commands: [] }],
    ['a broken manifest', { 'package.json': '{' }, { source: 'none', setup: [], commands: [] }],
    [
      "npm's placeholder",
      npm({ scripts: { test: 'echo "Error: no test specified" && exit 1' } }),
      { source: 'none', setup: [], commands: [] },
    ],
    [
      'npm scripts without dependencies',
      npm({ scripts: { test: 'node --test', lint: 'x', build: 'y' } }),
      { source: 'detected', setup: [], commands: ['npm test', 'npm run lint'] },
    ],
    [
      'a locked package',
      { ...npm({ scripts: { test: 'x' }, devDependencies: { x: '1' } }), 'package-lock.json': '{}' },
      { source: 'detected', setup: ['npm ci --no-audit --no-fund'], commands: ['npm test'] },
    ],
    [
      'an unlocked package',
      npm({ scripts: { 'type-check': 'tsc' }, dependencies: { x: '1' } }),
      {
        source: 'detected',
        setup: ['npm install --ignore-scripts --no-package-lock --no-audit --no-fund'],
        commands: ['npm run type-check'],
      },
    ],
    [
      'a package that only builds',
      npm({ scripts: { build: 'x' } }),
      { source: 'detected', setup: [], commands: ['npm run build'] },
    ],
    [
      'a go module',
      { 'go.mod': 'module x\n' },
      {
        source: 'detected',
        setup: [],
        commands: ['GOMODCACHE="$PWD/.agentgate/go" GOFLAGS=-modcacherw go test ./...'],
      },
    ],
    [
      'a crate',
      { 'Cargo.toml': '[package]\n' },
      { source: 'detected', setup: [], commands: ['CARGO_HOME="$PWD/.agentgate/cargo" cargo test'] },
    ],
    [
      'a makefile with test',
      { Makefile: 'X := 1\nall clean: x\n\ttrue\ntest: all\n\t./t\ncheck:\n' },
      { source: 'detected', setup: [], commands: ['make test'] },
    ],
    [
      'a makefile with check',
      { Makefile: 'test := 1\nbuild check:\n\t./t\n' },
      { source: 'detected', setup: [], commands: ['make check'] },
    ],
    [
      'a makefile beside a package',
      { Makefile: 'test:\n', ...npm({ scripts: { test: 'x' } }) },
      { source: 'detected', setup: [], commands: ['npm test'] },
    ],
  ])('for %s', async (_what, files, expected) => {
    expect(summary(await resolve(files))).toEqual(expected)
  })

  test.each([
    { 'pytest.ini': '' },
    { 'pyproject.toml': '[tool.pytest.ini_options]' },
    { 'setup.cfg': '[tool:pytest]' },
    { 'tests/test_a.py': '' },
  ])('runs pytest with the requirements installed (%#)', async (files) => {
    const plan = await resolve({ ...files, 'requirements.txt': 'requests' })
    expect(plan.gates.at(-1)?.check).toEqual({
      type: 'command',
      run: 'PYTHONPATH=.:src:.agentgate/python python3 -m pytest -q',
    })
    expect(plan.setup[0]).toContain('--target .agentgate/python -r requirements.txt')
  })

  test('guards against secrets and conflict markers, and keeps tests where there were some', async () => {
    const names = async (files: Record<string, string>) =>
      (await resolve(files)).gates.map((each) => each.name)
    expect(await names({ 'a.js': '' })).toEqual(['secrets', 'conflict markers'])
    expect(await names({ 'test/a.js': '' })).toEqual(['secrets', 'conflict markers', 'tests_present'])
  })
})
