import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Gate, RunEvent } from '../../../sdk/typescript/src/index.ts'
import {
  ANSWERED,
  type Cases,
  call,
  expectFailure,
  expectSettled,
  finish,
  startCases,
  stories,
  write,
} from '../harness/cases.ts'

const GOOD_END = [write('answer.txt', 'right\n'), finish('Wrote the answer.')]
const BUSY = Array.from({ length: 30 }, (_, n) => write('answer.txt', `attempt ${n}\n`))
const TOKENS = { inputTokens: 600, outputTokens: 400, cachedTokens: 0 }

let cases: Cases
let repository: string
beforeAll(async () => {
  const book = {
    nothing: [finish('There is nothing to do.')],
    malformed: [call('write_file', '{"path": "answer.txt", "content": '), ...GOOD_END],
    misfit: [call('write_file', { file: 'answer.txt' }), ...GOOD_END],
    unusable: Array.from({ length: 9 }, (_, n) => call('write_file', `{"n": ${n}`)),
    outside: [
      write('../../../../tmp/escaped.txt', 'x'),
      write('/etc/escaped.txt', 'x'),
      write('.git/hooks/pre-push', 'x'),
      ...GOOD_END,
    ],
    unknown: [call('deploy', { to: 'production' }), ...GOOD_END],
    repeating: Array.from({ length: 9 }, () => call('read_file', { path: 'README.md' })),
    busy: BUSY,
    thirsty: BUSY.map((step) => ({ ...step, usage: TOKENS })),
    silent: [write('answer.txt', 'half'), { fault: { kind: 'hang', after: 0 } as const }],
    leaving: [call('run_command', { command: 'sleep 1000 & echo started' }), ...GOOD_END],
  }
  cases = await startCases(stories(book))
  repository = (await cases.host()).repository
})
afterAll(() => cases[Symbol.asyncDispose]())

const failuresOf = (events: readonly RunEvent[]): unknown[] =>
  events.flatMap(({ type, data }) => (type === 'tool.failed' ? [data.code] : []))

describe.concurrent('an agent that does nothing', () => {
  test('completes as no_changes where the gates pass on the base', async () => {
    const readme: Gate = { name: 'readme', level: 'L0', check: { type: 'files', required: ['README.md'] } }
    const run = await cases.run({ repository, story: 'nothing', gatePlan: { gates: [readme] } })
    expect(run).toMatchObject({
      state: 'completed',
      statusReason: 'no_changes',
      verification: 'passed',
      output: 'There is nothing to do.',
      delivery: { mode: 'none', reason: 'no_changes' },
      prUrl: null,
      error: null,
    })
  })

  test('fails where they do not', async () => {
    const run = await cases.run({ repository, story: 'nothing', gatePlan: ANSWERED, maxIterations: 2 })
    expectFailure(run, { reason: 'limit_iterations', stage: 'verification', says: /2 iterations/ })
    expect(run).toMatchObject({ verification: 'failed', iterations: 2, delivery: null })
  })
})

describe.concurrent('a call that cannot be made goes back to the agent as a typed error', () => {
  test.each([
    ['broken arguments', 'malformed', ['invalid_arguments']],
    ['arguments that do not fit', 'misfit', ['invalid_arguments']],
    ['paths outside the workspace', 'outside', ['not_allowed', 'not_allowed', 'not_allowed']],
    ['a tool that does not exist', 'unknown', ['unknown_tool']],
  ])('%s', async (_what, story, codes) => {
    const run = await cases.run({ repository, story, gatePlan: ANSWERED })
    expect(run).toMatchObject({ state: 'completed', verification: 'passed' })
    const events = await cases.events(run.id)
    expect(failuresOf(events)).toEqual(codes)
    const { text = '' } = (await cases.artifacts(run.id)).get('changes.diff') ?? {}
    expect(text.match(/^diff --git .*/gm)).toEqual(['diff --git a/answer.txt b/answer.txt'])
  })

  test('until there were too many in a row, which is agent_error', async () => {
    const run = await cases.run({ repository, story: 'unusable', gatePlan: ANSWERED })
    expectFailure(run, { reason: 'agent_error', stage: 'agent', says: /no usable call in 3 steps/ })
  })
})

test('the same call again and again is loop_detected', async () => {
  const run = await cases.run({ repository, story: 'repeating' })
  expectFailure(run, { reason: 'loop_detected', stage: 'agent', says: /same call 3 times/ })
  expect(run.usage.toolCalls).toBe(3)
})

describe.concurrent('caps of the whole run', () => {
  test.each([
    ['limit_steps', 'busy', { maxSteps: 3 }, /3 steps/],
    ['limit_tool_calls', 'busy', { maxToolCalls: 2 }, /2 tool calls/],
    ['limit_tokens', 'thirsty', { maxTokens: 2_500 }, /3000 of 2500 tokens/],
    ['limit_credits', 'thirsty', { maxCredits: 1 }, /credits/],
  ])('%s', async (reason, story, constraints, says) => {
    const run = await cases.run({ repository, story, constraints, gatePlan: ANSWERED })
    expectFailure(run, { reason, stage: 'agent', says })
    expect(run.delivery).toBeNull()
    if ('maxCredits' in constraints) expect(run.cost.credits).toBeLessThanOrEqual(constraints.maxCredits)
  })

  test('what the agent had done by then is kept for people', async () => {
    const run = await cases.run({ repository, story: 'busy', constraints: { maxSteps: 3 } })
    const artifacts = await cases.artifacts(run.id)
    expect(artifacts.get('changes.diff')?.text).toContain('+attempt 2')
    const transcript = (artifacts.get('transcript.jsonl')?.text ?? '').trim().split('\n')
    expect(transcript.map((line) => JSON.parse(line).kind)).toEqual([
      'step',
      'tool',
      'step',
      'tool',
      'step',
      'tool',
    ])
    expect((await cases.events(run.id)).map(({ type }) => type)).toContain('run.limit_warning')
  })
})

test('limit_time ends a model that says nothing, and keeps what there was', async () => {
  const constraints = { maxDurationSeconds: 5 }
  const run = await cases.run({ repository, story: 'silent', constraints })
  expectFailure(run, { reason: 'limit_time', stage: 'agent', says: /5 seconds/ })
  await expect
    .poll(async () => [...(await cases.artifacts(run.id)).keys()].toSorted())
    .toEqual(['changes.diff', 'transcript.jsonl'])
  expect((await cases.artifacts(run.id)).get('changes.diff')?.text).toContain('+half')
})

test('what a command leaves running ends with the command', async () => {
  const run = await cases.run({ repository, story: 'leaving', gatePlan: ANSWERED })
  expect(run.state).toBe('completed')
})

test('none of these runs still holds credit, and each was charged what it says', async () => {
  await expectSettled(cases)
})
