import { describe, expect, test } from 'vitest'
import { GATE_DEFAULTS, type Gate, type GateCheck, type GatePlan } from '../domain/gate-plan.ts'
import type { JailedCommand, JailOutcome } from '../jail/command.ts'
import { systemClock } from '../lib/clock.ts'
import { CONFLICT_GATE, SECRETS_GATE, TESTS_PRESENT_GATE } from './guards.ts'
import { runGates, type Verify } from './run-gates.ts'

type Answer = JailOutcome & { output?: string }
const exit = (exitCode: number, output = ''): Answer => ({ outcome: 'exited', exitCode, output })

const gate = (name: string, check: GateCheck, more: Partial<Gate> = {}): Gate => ({
  name,
  level: check.type === 'command' ? 'L1' : 'L0',
  check,
  ...GATE_DEFAULTS,
  ...more,
})
const command = (run: string, more: Partial<Gate> = {}): Gate => gate(run, { type: 'command', run }, more)
const plan = (gates: Gate[], more: Partial<GatePlan> = {}): GatePlan => ({
  source: 'request',
  strict: false,
  setup: [],
  gates,
  ...more,
})

/** A verification whose commands answer from a table; what ran is kept in order. */
function scene(answers: Record<string, Answer>, more: Partial<Verify> & { plan: GatePlan }) {
  const ran: JailedCommand[] = []
  const trees = { made: 0, open: 0 }
  const verify: Verify = {
    slot: {
      async run(jailed) {
        ran.push(jailed)
        const answer = answers[jailed.argv[2] ?? ''] ?? exit(0)
        const output = answer.output ?? ''
        return { ...answer, output, outputBytes: output.length, truncated: false, durationMs: 5 }
      },
      async own() {},
    },
    async freshTree() {
      trees.open++
      return {
        path: `/trees/${trees.made++}`,
        async [Symbol.asyncDispose]() {
          trees.open--
        },
      }
    },
    listFiles: async () => ['README.md', 'test/a.test.js'],
    addedLines: async () => [],
    changedPaths: [],
    attempts: {},
    clean: (text) => text,
    clock: systemClock,
    signal: new AbortController().signal,
    ...more,
  }
  return { verify, ran, trees }
}
const clearing = (immediate: NodeJS.Immediate) => () => clearImmediate(immediate)
const outcomes = (verdict: Awaited<ReturnType<typeof runGates>>) =>
  verdict.reports.map((report) => `${report.name} ${report.outcome}`)

describe('levels', () => {
  test('gates run in the order of levels, each on a tree of its own that is removed', async () => {
    const { verify, ran, trees } = scene(
      {},
      { plan: plan([command('b'), command('a', { level: 'L0' }), command('c')]) },
    )
    const verdict = await runGates(verify)
    expect(verdict).toMatchObject({ verification: 'passed', feedback: null, stop: null })
    expect(outcomes(verdict)).toEqual(['a passed', 'b passed', 'c passed'])
    expect(ran.map((jailed) => jailed.workspace)).toEqual(['/trees/0', '/trees/1', '/trees/2'])
    expect(trees).toEqual({ made: 3, open: 0 })
  })

  test('all gates of a failing level run, and none of the next', async () => {
    const gates = [command('a', { level: 'L0' }), command('b', { level: 'L0' }), command('c')]
    const { verify, ran } = scene({ a: exit(1, 'why a') }, { plan: plan(gates) })
    const verdict = await runGates(verify)
    expect(outcomes(verdict)).toEqual(['a failed', 'b passed', 'c skipped'])
    expect(verdict).toMatchObject({ verification: 'failed', stop: null })
    expect(verdict.feedback).toContain('why a')
    expect(ran).toHaveLength(2)
  })

  test('each report is told before the next gate starts', async () => {
    const told: string[] = []
    const { verify, ran } = scene({}, { plan: plan([command('a'), command('b')]) })
    await runGates({
      ...verify,
      onReport: async (report) => void told.push(`${report.name} after ${ran.length}`),
    })
    expect(told).toEqual(['a after 1', 'b after 2'])
  })
})

describe('how a command ends', () => {
  test.each<[Answer, string, string]>([
    [{ outcome: 'timed_out', output: 'half' }, 'timed_out', 'stopped after 300 s'],
    [{ outcome: 'signaled', signal: 'SIGKILL' }, 'failed', 'SIGKILL'],
    [{ outcome: 'refused_to_start', reason: 'No jail is available.' }, 'error', 'No jail is available.'],
    [exit(127, 'sh: 1: x: not found\n'), 'error', 'x is not installed'],
    [exit(127, 'sh: 1: y: not found\n'), 'failed', 'code 127'],
    [exit(3), 'failed', 'code 3'],
  ])('decides its outcome (%j)', async (answer, outcome, part) => {
    const { verify } = scene({ x: answer }, { plan: plan([command('x')]) })
    const { reports, verification } = await runGates(verify)
    expect(reports[0]?.outcome).toBe(outcome)
    expect(reports[0]?.summary).toContain(part)
    expect(verification).toBe('failed')
  })

  test('a gate that could not run ends the run as gate_error', async () => {
    const answers: Record<string, Answer> = { x: { outcome: 'refused_to_start', reason: 'No jail.' } }
    const { verify } = scene(answers, { plan: plan([command('a', { onFailure: 'stop' }), command('x')]) })
    expect((await runGates(verify)).stop).toMatchObject({ gate: 'x', reason: 'gate_error' })
  })

  test('output is cleaned before it is cut, so that no half of a secret stays', async () => {
    const secret = `begin${'s'.repeat(66_000)}end`
    const { verify } = scene({ x: exit(1, `\u001b[1mkey ${secret}`) }, { plan: plan([command('x')]) })
    const { reports } = await runGates({ ...verify, clean: (text) => text.replaceAll(secret, '[masked]') })
    expect(reports[0]?.output).toBe('key [masked]')
  })

  test('a flood is cut to its beginning and end', async () => {
    const { verify } = scene(
      { x: exit(1, `first ${'y\n'.repeat(500_000)} last`) },
      { plan: plan([command('x')]) },
    )
    const { reports, feedback } = await runGates(verify)
    expect(reports[0]?.output.length).toBeLessThanOrEqual(65_536)
    expect(reports[0]?.output).toMatch(/^first [^]* last$/)
    expect(feedback?.length).toBeLessThanOrEqual(8_000)
  })

  test('the place of the tree is not part of the output', async () => {
    const { verify } = scene({ x: exit(1, 'at /trees/0/a.js') }, { plan: plan([command('x')]) })
    expect((await runGates(verify)).reports[0]?.output).toBe('at /workspace/a.js')
  })

  test('an abort ends the verification with its reason and leaves no tree', async () => {
    const controller = new AbortController()
    const { verify, trees } = scene(
      {},
      { plan: plan([command('a'), command('b')]), signal: controller.signal },
    )
    const { run } = verify.slot
    const aborting: Verify['slot'] = {
      ...verify.slot,
      run: (jailed) => {
        controller.abort(new Error('run canceled'))
        return run(jailed)
      },
    }
    await expect(runGates({ ...verify, slot: aborting })).rejects.toThrow('run canceled')
    expect(trees).toEqual({ made: 1, open: 0 })
  })
})

describe('what a failure leads to', () => {
  test.each([
    [{ onFailure: 'stop' } as const, {}, 'ends the run'],
    [{ onFailure: 'escalate' } as const, {}, 'a person'],
    [{ maxAttempts: 1 }, {}, '1 of at most 1'],
    [{ maxAttempts: 3 }, { x: 2 }, '3 of at most 3'],
  ])('%j after %j ends the run', async (more, attempts, part) => {
    const { verify } = scene({ x: exit(1) }, { plan: plan([command('x', more)]), attempts })
    const { stop } = await runGates(verify)
    expect(stop).toMatchObject({ gate: 'x', reason: 'verification_failed' })
    expect(stop?.message).toContain(part)
  })

  test('attempts that are left go on', async () => {
    const gates = [command('constructor', { maxAttempts: 1000 }), command('x', { maxAttempts: 3 })]
    const { verify } = scene({ x: exit(1), constructor: exit(1) }, { plan: plan(gates), attempts: { x: 1 } })
    expect((await runGates(verify)).stop).toBeNull()
  })
})

describe('nothing runnable is never a pass', () => {
  const guards = [SECRETS_GATE, CONFLICT_GATE]

  test.each([plan([]), plan(guards, { source: 'none' }), plan(guards, { source: 'detected' })])(
    'it is an honest none (%#)',
    async (nothing) => {
      const { verify } = scene({}, { plan: nothing })
      expect(await runGates(verify)).toMatchObject({ verification: 'none', feedback: null, stop: null })
    },
  )

  test('under strict it ends the run', async () => {
    const { verify } = scene({}, { plan: plan(guards, { source: 'none', strict: true }) })
    expect(await runGates(verify)).toMatchObject({
      verification: 'failed',
      stop: { gate: null, reason: 'verification_failed' },
    })
  })

  test('a guard that fails fails, though nothing else verifies', async () => {
    const addedLines = async () => [{ path: 'a', line: 2, text: '<<<<<<< HEAD' }]
    const { verify } = scene({}, { plan: plan(guards, { source: 'none' }), addedLines })
    expect((await runGates(verify)).verification).toBe('failed')
  })
})

describe('deleted and emptied tests', () => {
  const detected = (run: string, had: boolean) =>
    plan([SECRETS_GATE, CONFLICT_GATE, ...(had ? [TESTS_PRESENT_GATE] : []), command(run)], {
      source: 'detected',
    })

  test('no test file left where there were some fails tests_present', async () => {
    const { verify } = scene({}, { plan: detected('npm test', true), listFiles: async () => ['src/a.js'] })
    const verdict = await runGates(verify)
    expect(outcomes(verdict)).toContain('tests_present failed')
    expect(verdict.verification).toBe('failed')
  })

  test.each([
    exit(0, '# tests 0\n# pass 0\n# fail 0'),
    exit(5, 'no tests ran in 0.01s'),
    exit(0, '?   \tx\t[no test files]'),
  ])('no test that ran where there were some fails (%j)', async (answer) => {
    const { verify } = scene({ t: answer }, { plan: detected('t', true) })
    expect((await runGates(verify)).reports.at(-1)).toMatchObject({ outcome: 'failed' })
  })

  test.each([exit(0, '# tests 0\n# pass 0\n# fail 0'), exit(5, 'no tests ran in 0.01s')])(
    'no test that ran where there were none verifies nothing (%j)',
    async (answer) => {
      const { verify } = scene({ t: answer }, { plan: detected('t', false) })
      expect(await runGates(verify)).toMatchObject({ verification: 'none' })
    },
  )

  test('a command that fails for another reason is not excused by a suite without tests', async () => {
    const { verify } = scene(
      { t: exit(1, '# tests 0\n# pass 0\nlint: 3 problems') },
      { plan: detected('t', false) },
    )
    expect((await runGates(verify)).verification).toBe('failed')
  })

  test('a plan of the caller does not pass by a suite without tests', async () => {
    const { verify } = scene(
      { t: exit(0, '# tests 0\n# pass 0') },
      { plan: plan([command('t'), command('lint')]) },
    )
    expect((await runGates(verify)).verification).toBe('failed')
  })

  const rewritten = (text: string, output: string) =>
    scene(
      { 'npm test': exit(0, output) },
      {
        plan: detected('npm test', true),
        changedPaths: ['package.json'],
        addedLines: async () => [{ path: 'package.json', line: 3, text }],
      },
    )

  test.each(['"test": "true"', '"\\u0074est": "true"', '"scripts":{"pretest": "x"}'])(
    'a rewritten test script must show that tests run: %s',
    async (text) => {
      expect((await runGates(rewritten(text, 'ok').verify)).verification).toBe('failed')
      expect((await runGates(rewritten(text, '# tests 2\n# pass 2').verify)).verification).toBe('passed')
    },
  )

  test('settings of npm are part of how tests run', async () => {
    const { verify } = scene({}, { plan: detected('npm test', true), changedPaths: ['.npmrc'] })
    expect((await runGates(verify)).verification).toBe('failed')
  })

  test('a change of dependencies leaves a runner that is not known alone', async () => {
    expect((await runGates(rewritten('"left-pad": "1"', 'ok').verify)).verification).toBe('passed')
  })
})

describe('forbid', () => {
  const forbidden = (check: Partial<Extract<GateCheck, { type: 'forbid' }>>, more: Partial<Verify>) =>
    runGates(scene({}, { plan: plan([gate('f', { type: 'forbid', ...check })]), ...more }).verify)
  const lines =
    (...texts: string[]) =>
    async () =>
      texts.map((text, n) => ({ path: 'src/a.js', line: n + 1, text }))

  test('names the place and never the text', async () => {
    const { reports } = await forbidden(
      { patterns: ['password\\s*=\\s*\\S+'] },
      { addedLines: lines('ok', 'password = hunter2') },
    )
    expect(reports[0]).toMatchObject({ outcome: 'failed' })
    expect(reports[0]?.output).toContain('src/a.js:2')
    expect(JSON.stringify(reports)).not.toContain('hunter2')
  })

  test('refuses changed paths', async () => {
    const { reports } = await forbidden(
      { paths: ['.github/'] },
      { changedPaths: ['.github/workflows/ci.yml', 'a'] },
    )
    expect(reports[0]?.output).toBe('.github/workflows/ci.yml: this path must not change (.github/)')
  })

  test('finds a match across the windows of a long line', async () => {
    for (const at of [0, 7_160, 7_168, 8_188, 20_000]) {
      const { verification } = await forbidden(
        { patterns: ['needle'] },
        { addedLines: lines(`${'x'.repeat(at)}needle`) },
      )
      expect({ at, verification }).toEqual({ at, verification: 'failed' })
    }
  })

  test('tells at most twenty places of many', async () => {
    const { reports } = await forbidden(
      { patterns: ['x'] },
      { addedLines: lines(...Array<string>(1_000).fill('x')) },
    )
    expect(reports[0]?.output.split('\n')).toHaveLength(20)
  })

  test('reads an endless change only until its time is over', async () => {
    async function* endless() {
      for (let line = 1; ; line++) yield { path: 'a', line, text: 'x'.repeat(1_000) }
    }
    const slow = plan([gate('f', { type: 'forbid', patterns: ['y'] }, { timeoutSeconds: 1 })])
    const clock = { ...systemClock, after: (_ms: number, wake: () => void) => clearing(setImmediate(wake)) }
    const { reports } = await runGates(scene({}, { plan: slow, addedLines: endless, clock }).verify)
    expect(reports[0]).toMatchObject({ outcome: 'timed_out', summary: 'The search was stopped after 1 s.' })
  })

  // Put together here, so that no scanner takes this file for a leak.
  test.each([
    ['AK', 'IAIOSFODNN7EXAMPLE'],
    ['gh', `p_${'a1B2'.repeat(9)}`],
    ['github', `_pat_${'a'.repeat(30)}`],
    ['org', `_live_${'k'.repeat(24)}`],
    ['sk', `-proj-${'a1'.repeat(20)}`],
    ['wh', `sec_${'A'.repeat(44)}`],
    ['-----BEGIN', ' RSA PRIVATE KEY-----'],
    ['-----BEGIN', ' PRIVATE KEY-----'],
  ])('the default plan finds a key of the form %s…', async (head, tail) => {
    const { verify } = scene(
      {},
      { plan: plan([SECRETS_GATE]), addedLines: lines(`const key = '${head}${tail}'`) },
    )
    expect((await runGates(verify)).verification).toBe('failed')
  })

  test('the default plan leaves ordinary code alone', async () => {
    const ordinary = [
      'Title',
      '=======',
      'task-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
      'a << b',
      'const ghp = 1',
      'AKIA',
    ]
    const { verify } = scene(
      {},
      { plan: plan([SECRETS_GATE, CONFLICT_GATE]), addedLines: lines(...ordinary) },
    )
    expect((await runGates(verify)).verification).toBe('passed')
  })
})

test('files are required of the commit', async () => {
  const check = (required: string[]) =>
    runGates(scene({}, { plan: plan([gate('f', { type: 'files', required })]) }).verify)
  expect((await check(['README.md', 'test/*.js'])).verification).toBe('passed')
  const { reports } = await check(['README.md', 'LICENSE*'])
  expect(reports[0]).toMatchObject({ outcome: 'failed', output: 'no file matches LICENSE*' })
})

test('the same commit gives the same verdict twice', async () => {
  const verdict = async () => {
    const { verify } = scene({ a: exit(1, 'x') }, { plan: plan([SECRETS_GATE, command('a'), command('b')]) })
    const { reports, ...rest } = await runGates(verify)
    return { ...rest, reports: reports.map((report) => ({ ...report, durationMs: 0 })) }
  }
  expect(await verdict()).toEqual(await verdict())
})
