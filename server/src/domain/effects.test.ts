import { expect, test } from 'vitest'
import { effectsOf } from './effects.ts'
import { someFacts } from './run.fixture.ts'
import { type Run, unborn } from './run.ts'

const FACTS = someFacts({
  order: {
    id: 'wo_1',
    taskPrompt: 'x',
    workspaceSource: { type: 'git', repository: 'https://a.example/b' },
    gatePlan: null,
    delivery: null,
    maxIterations: 10,
  },
})

const failed = (change: Partial<Run>): Run => ({
  ...unborn(FACTS),
  state: 'failed',
  statusReason: 'system_error',
  ...change,
})

const passed = { n: 1, commit: 'c', changed: true, verdict: 'passed' } as const

test('a run that ended before its result was due wrote nothing', () => {
  expect(effectsOf(failed({}))).toEqual([])
  expect(
    effectsOf(failed({ iteration: { ...passed, verdict: 'failed' }, statusReason: 'limit_iterations' })),
  ).toEqual([])
})

test('what was pushed and opened is certain', () => {
  const pushed = { branch: 'b', commit: 'c' }
  expect(
    effectsOf(failed({ state: 'completed', iteration: passed, pushed, prUrl: 'https://a.example/pr/1' })),
  ).toEqual([
    { type: 'delivery.push', certain: true, branch: 'b', commit: 'c' },
    { type: 'delivery.pull_request', certain: true, prUrl: 'https://a.example/pr/1' },
  ])
})

test('a run that ended between its verdict and the word of its push may have pushed', () => {
  for (const state of ['failed', 'canceled'] as const) {
    expect(effectsOf(failed({ state, iteration: passed }))).toEqual([
      { type: 'delivery.push', certain: false },
    ])
  }
})

test('a refused push, no change and an order without delivery wrote nothing', () => {
  expect(effectsOf(failed({ iteration: passed, statusReason: 'push_rejected' }))).toEqual([])
  expect(effectsOf(failed({ iteration: { ...passed, changed: false } }))).toEqual([])
  const order = FACTS.order && { ...FACTS.order, delivery: { mode: 'none' } as const }
  expect(effectsOf({ ...failed({ iteration: passed }), facts: { ...FACTS, order } })).toEqual([])
})
