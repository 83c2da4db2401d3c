import { expect, test } from 'vitest'
import type { RunEvent } from '../../../sdk/typescript/src/index.ts'
import { lineOf } from './event-line.ts'

const event = (type: string, data: object, seq = 12): RunEvent =>
  ({
    id: 'evt_1',
    type,
    createdAt: '2026-01-01T00:00:00.000Z',
    mode: 'live',
    runId: 'run_1',
    seq,
    data: { runId: 'run_1', tenantContext: {}, ...data },
  }) as RunEvent // the data of one type, spelled out by each case

test.each([
  [
    'tool.completed',
    { name: 'run_command', durationMs: 1234, preview: 'exit code 0\nall good' },
    '#12 tool.completed run_command 1.2 s exit code 0 all good',
  ],
  [
    'workspace.ready',
    { repository: 'https://x/y.git', branch: 'main', commit: 'abcdef0123', jail: 'bubblewrap' },
    '#12 workspace.ready https://x/y.git main@abcdef0 jail bubblewrap',
  ],
  [
    'verification.failed',
    {
      iteration: 1,
      feedback: '',
      gates: [
        { name: 'secrets', level: 'L0', outcome: 'passed', summary: '', durationMs: 1 },
        { name: 'npm test', level: 'L1', outcome: 'failed', summary: 'Exit code 1.', durationMs: 1 },
      ],
    },
    '#12 verification.failed iteration 1: secrets passed · npm test failed: Exit code 1.',
  ],
  [
    'delivery.pull_request',
    { prUrl: 'https://x/y/pull/1', number: 1, branch: 'b', draft: false },
    '#12 delivery.pull_request https://x/y/pull/1',
  ],
  [
    'run.completed',
    { statusReason: 'completed', verification: 'passed', cost: { credits: 1 } },
    '#12 run.completed completed verification passed 1 credit',
  ],
  [
    'run.failed',
    { statusReason: 'limit_steps', error: { message: 'Too many.' }, cost: { credits: 3 } },
    '#12 run.failed limit_steps Too many. 3 credits',
  ],
  ['some.novelty', { surprise: true }, '#12 some.novelty'],
])('%s is one line with its seq and what matters', (type, data, line) => {
  expect(lineOf(event(type, data))).toBe(line)
})

test('what an agent writes cannot work on the terminal', () => {
  const text = 'a\u001B[2Jb\r\nc\u0007\u202Ed\u2028e'
  expect(lineOf(event('message.completed', { step: 1, text }))).toBe('#12 message.completed a [2Jb c d e')
})

test('a long text is one short line', () => {
  expect(lineOf(event('message.completed', { step: 1, text: 'word '.repeat(1000) })).length).toBeLessThan(200)
})
