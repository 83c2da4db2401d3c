import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { ANSWER, type Arena, gateOf, lackingJail, type Seen, startArena, use } from './arena.ts'

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

const manifest = (more: object): string => JSON.stringify({ type: 'module', private: true, ...more })
const testOf = (from: string): string =>
  `import assert from 'node:assert'\nimport { test } from 'node:test'\nimport { sum } from '${from}'\ntest('adds', () => assert.equal(sum(2, 3), 5))\n`
const SUM = 'export const sum = (a, b) => a + b\n'
const BREAK = use('edit_file', { path: 'sum.js', oldText: 'a + b', newText: 'a - b' })

const NPM = {
  'package.json': manifest({ name: 'sums', scripts: { test: 'node --test' } }),
  'sum.js': SUM,
  'sum.test.js': testOf('./sum.js'),
}
const UNITTEST = {
  'README.md': 'Run python3 -m unittest.\n',
  'sums.py': 'def add(a, b):\n    return a + b\n',
  'tests/__init__.py': '',
  'tests/test_sums.py':
    'import unittest\nfrom sums import add\n\nclass Adds(unittest.TestCase):\n    def test_adds(self):\n        self.assertEqual(add(2, 3), 5)\n',
}
const MAKE = {
  Makefile: 'CC = gcc\n\ntest: sums\n\t./sums\n\nsums: sums.sh\n\tcp sums.sh sums; chmod +x sums\n',
  'sums.sh': '#!/bin/sh\ntest $((2 + 3)) -eq 5 && echo 1 passed\n',
}
const MONOREPO = {
  'package.json': manifest({
    name: 'all',
    workspaces: ['packages/*'],
    scripts: { test: 'npm test --workspaces' },
  }),
  'packages/sum/package.json': manifest({
    name: '@all/sum',
    exports: './sum.js',
    scripts: { test: 'node --test' },
  }),
  'packages/sum/sum.js': SUM,
  'packages/sum/sum.test.js': testOf('./sum.js'),
  'packages/use/package.json': manifest({ name: '@all/use', scripts: { test: 'node --test' } }),
  'packages/use/use.test.js': testOf('@all/sum'),
}
const NO_TESTS = { 'README.md': '# notes\n', 'index.html': '<h1>Hello</h1>\n' }

describe.skipIf(lackingJail !== null)('a new user tries a repository without any settings:', () => {
  let arena: Arena
  beforeAll(async () => {
    arena = await startArena()
  })
  afterAll(() => arena?.[Symbol.asyncDispose]())

  const dataOf = ({ events }: Seen, type: string): Record<string, unknown> => ({
    ...events.find((event) => event.type === type)?.data,
  })
  const planOf = (seen: Seen): unknown => dataOf(seen, 'verification.started')['gates']
  const setupOf = (seen: Seen): unknown => dataOf(seen, 'workspace.ready')['setup']

  test('npm tests are found; they pass with a good change and fail with a bad one', async () => {
    const good = await arena.try({ files: NPM, steps: ANSWER })
    expect(planOf(good)).toEqual(['secrets', 'conflict markers', 'tests_present', 'npm test'])
    expect(setupOf(good)).toBeUndefined()
    expect(good.run).toMatchObject({ state: 'completed', verification: 'passed' })
    const bad = await arena.try({ files: NPM, steps: [BREAK] })
    expect(bad.run).toMatchObject({ statusReason: 'limit_iterations', verification: 'failed' })
  })

  test('unittest runs where the plan says so', async () => {
    const gatePlan = gateOf('python3 -m unittest')
    const own = await arena.try({ files: UNITTEST, steps: ANSWER, order: { gatePlan } })
    expect(own.run).toMatchObject({ state: 'completed', verification: 'passed' })
  })

  test('unittest runs without a plan and without an index of packages', async () => {
    const off = await arena.try({ files: UNITTEST, steps: ANSWER })
    expect(off.run).toMatchObject({ state: 'completed', verification: 'passed' })
  })

  test('the test target of a Makefile is found', async () => {
    const seen = await arena.try({ files: MAKE, steps: ANSWER })
    expect(planOf(seen)).toEqual(['secrets', 'conflict markers', 'make test'])
    expect(seen.run).toMatchObject({ state: 'completed', verification: 'passed' })
  })

  test('packages of a monorepo that need each other are linked and tested from the root', async () => {
    const seen = await arena.try({ files: MONOREPO, steps: ANSWER })
    expect(planOf(seen)).toEqual(['secrets', 'conflict markers', 'tests_present', 'npm test'])
    expect(setupOf(seen)).toMatchObject([{ command: expect.stringMatching(/^npm install/) }])
    expect(seen.run).toMatchObject({ state: 'completed', verification: 'passed' })
    expect(seen.artifacts.get('gate-1-L1-npm-test.txt')?.match(/^# tests 1$/gm)).toHaveLength(2)
  })

  test('without tests the result is an honest none, and a failure under strict', async () => {
    const plain = await arena.try({ files: NO_TESTS, steps: ANSWER })
    expect(plain.run).toMatchObject({ state: 'completed', verification: 'none' })
    const strict = await arena.try({ files: NO_TESTS, steps: ANSWER, order: { gatePlan: 'strict' } })
    expect(strict.run).toMatchObject({ state: 'failed', statusReason: 'verification_failed' })
  })
})
