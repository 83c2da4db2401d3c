/** Plans and gates together on a real jail: what a repository's own commands can and cannot do. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { type JailFixture, openFixture } from '../jail/jail-fixture.ts'
import { systemClock } from '../lib/clock.ts'
import { resolveGatePlan } from './plan.ts'
import { runGates, type Verify } from './run-gates.ts'

let jail: JailFixture
beforeAll(async () => {
  jail = await openFixture()
})
afterAll(() => jail[Symbol.asyncDispose]())

type Files = Record<string, string>

/** Verifies `commit` by the plan of `base`, as a run does. */
async function verify(base: Files, commit: Files, more: { requested?: unknown } & Partial<Verify> = {}) {
  const { requested, ...options } = more
  const plan = await resolveGatePlan({
    requested,
    readFile: async (path) => base[path],
    listFiles: async () => Object.keys(base),
  })
  const changedPaths = Object.keys({ ...base, ...commit }).filter((path) => base[path] !== commit[path])
  const trees = mkdtempSync(join(jail.root, 'trees-'))
  chmodSync(trees, 0o711)
  const verdict = await runGates({
    plan,
    slot: jail.slot,
    freshTree: async () => makeTree(trees, commit),
    listFiles: async () => Object.keys(commit),
    changedPaths,
    addedLines: async () =>
      changedPaths.flatMap((path) =>
        (commit[path] ?? '').split('\n').map((text, index) => ({ path, line: index + 1, text })),
      ),
    attempts: {},
    clean: (text) => text,
    clock: systemClock,
    signal: new AbortController().signal,
    ...options,
  })
  expect(readdirSync(trees)).toEqual([])
  rmSync(trees, { recursive: true })
  return verdict
}

function makeTree(folder: string, files: Files) {
  const path = mkdtempSync(join(folder, 'tree-'))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(path, name)), { recursive: true })
    writeFileSync(join(path, name), text)
  }
  return { path, [Symbol.asyncDispose]: async () => rmSync(path, { recursive: true, force: true }) }
}

const NODE: Files = {
  'package.json': '{"type":"module","scripts":{"test":"node --test"}}',
  'sum.js': 'export const sum = (a, b) => a - b\n',
  'test/sum.test.js':
    "import test from 'node:test'\nimport assert from 'node:assert'\nimport { sum } from '../sum.js'\ntest('sum', () => assert.equal(sum(1, 2), 3))\n",
}
const FIXED: Files = { ...NODE, 'sum.js': 'export const sum = (a, b) => a + b\n' }
const commands = (...runs: string[]) => ({
  gates: runs.map((run, n) => ({
    name: `g${n}`,
    level: 'L1',
    check: { type: 'command', run },
    timeoutSeconds: 20,
  })),
})

test('a fix passes the tests of its repository', async () => {
  const verdict = await verify(NODE, FIXED)
  expect(verdict).toMatchObject({ verification: 'passed', feedback: null, stop: null })
  expect(verdict.reports.at(-1)?.summary).toBe('The command exited with code 0. 1 test ran.')
})

test('a fix that is wrong fails and its feedback shows the failing test', async () => {
  const verdict = await verify(NODE, { ...NODE, 'sum.js': 'export const sum = () => 4\n' })
  expect(verdict).toMatchObject({ verification: 'failed', stop: null })
  expect(verdict.feedback).toMatch(/sum/)
  expect(verdict.feedback).toMatch(/4 !== 3|actual: 4/)
})

test.each<[string, Files]>([
  ['deleted', { 'package.json': NODE['package.json'] ?? '', 'sum.js': '' }],
  ['emptied', { ...NODE, 'test/sum.test.js': '' }],
  ['skipped', { ...NODE, 'test/sum.test.js': "import test from 'node:test'\ntest.skip('sum', () => {})\n" }],
  ['no longer called', { ...NODE, 'package.json': '{"type":"module","scripts":{"test":"true"}}' }],
])('tests that are %s do not pass', async (_what, commit) => {
  expect((await verify(NODE, commit)).verification).toBe('failed')
})

test('make runs its tests, which see nothing of the host and reach nobody', async () => {
  vi.stubEnv('AGENTGATE_CANARY', 'canary-5f3')
  const call = `node -e "require('net').connect(80, '192.0.2.1').on('error', (e) => console.log(e.code))"`
  const base = { Makefile: `test:\n\tenv\n\t${call}\n` }
  const verdict = await verify(base, base)
  vi.unstubAllEnvs()
  expect(verdict.verification).toBe('passed')
  expect(verdict.reports.at(-1)?.output).toMatch(/^CI=true$/m)
  expect(verdict.reports.at(-1)?.output).toMatch(/^ENETUNREACH$/m)
  expect(verdict.reports.at(-1)?.output).not.toContain('canary-5f3')
})

test('a gate that hangs is stopped and leaves no process', async () => {
  const hanging = { gates: [{ ...commands('sleep 98765 & sleep 98765').gates[0], timeoutSeconds: 1 }] }
  const verdict = await verify({}, {}, { requested: hanging })
  expect(verdict.reports[0]).toMatchObject({
    outcome: 'timed_out',
    summary: 'The command was stopped after 1 s.',
  })
  expect(readdirSync('/proc').filter((pid) => commandLine(pid).includes('98765'))).toEqual([])
})

const commandLine = (pid: string): string => {
  const file = `/proc/${pid}/cmdline`
  try {
    return /^\d+$/.test(pid) && existsSync(file) ? readFileSync(file, 'utf8') : ''
  } catch {
    // The process ended meanwhile.
    return ''
  }
}

test('a gate that floods is held to its cap, its end kept', async () => {
  const verdict = await verify(
    {},
    {},
    { requested: commands('head -c 50000000 /dev/zero | tr "\\0" x; echo; echo the end; exit 1') },
  )
  expect(verdict.reports[0]).toMatchObject({ outcome: 'failed', exitCode: 1 })
  expect(verdict.reports[0]?.output.length).toBeLessThanOrEqual(65_536)
  expect(verdict.feedback).toContain('the end')
})

test('a gate that deletes its tree changes nothing for the next', async () => {
  const files = { 'a.txt': 'here' }
  const verdict = await verify(files, files, {
    requested: commands('rm -rf ./* /workspace/.??*; exit 0', 'cat a.txt'),
  })
  expect(verdict.verification).toBe('passed')
  expect(verdict.reports[1]?.output).toBe('here')
})

test('a link out of the tree leads nowhere on the host', async () => {
  const verdict = await verify({}, {}, { requested: commands(`ln -s ${import.meta.dirname} out && ls out/`) })
  expect(verdict.reports[0]).toMatchObject({ outcome: 'failed' })
})

test('a tool that is not there ends the run as gate_error', async () => {
  const verdict = await verify({}, {}, { requested: commands('X=1 no-such-tool --version') })
  expect(verdict.stop).toMatchObject({ gate: 'g0', reason: 'gate_error' })
  expect(verdict.stop?.message).toContain('no-such-tool is not installed')
})

test('a cancel stops a running gate', async () => {
  const controller = new AbortController()
  const slot: Verify['slot'] = {
    own: (path) => jail.slot.own(path),
    run: (command) =>
      jail.slot.run({ ...command, onOutput: () => controller.abort(new Error('run canceled')) }),
  }
  const verdict = verify(
    {},
    {},
    { requested: commands('echo started; sleep 98766'), slot, signal: controller.signal },
  )
  await expect(verdict).rejects.toThrow('run canceled')
})

test('a repository without anything to run is not verified, and fails under strict', async () => {
  const files = { 'README.md': 'hello' }
  expect((await verify(files, { 'README.md': 'hello!' })).verification).toBe('none')
  expect(await verify(files, files, { requested: 'strict' })).toMatchObject({
    verification: 'failed',
    stop: { gate: null },
  })
})

test('the verdict is the same when gates run twice', async () => {
  const requested = commands('ls -a; pwd; echo $RANDOM; env | sort', 'node -p process.cwd(); exit 3')
  const verdict = async () => {
    const { reports, ...rest } = await verify(FIXED, FIXED, { requested })
    return { ...rest, reports: reports.map((report) => ({ ...report, durationMs: 0 })) }
  }
  expect(await verdict()).toEqual(await verdict())
})
