import { describe, expect, test } from 'vitest'
import { type Command, MAX_STRIKES } from './command.ts'
import { DEFAULT_CONSTRAINTS, type RunFacts } from './facts.ts'
import { AT, lived, PRICES, someFacts, take } from './run.fixture.ts'
import type { Run } from './run.ts'
import { dueAt, unborn } from './run.ts'

type Step = Parameters<typeof lived>[1][number]

const TOKENS = { inputTokens: 0, outputTokens: 0, cachedTokens: 0 }
const CLAIM: Step = { type: 'claim', cause: null }
const LOST: Step = { type: 'claim', cause: 'worker_lost' }
const begin = (step = 1): Step => ({ type: 'begin_step', step, model: 'none', worstCase: TOKENS })
const end = (step = 1, more: object = {}): Step => ({
  type: 'end_step',
  step,
  model: 'none',
  usage: TOKENS,
  usageReported: true,
  text: '',
  calls: [],
  ...more,
})
const calls = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    id: `call_${i}`,
    name: 'read_file',
    arguments: {},
    argumentsTruncated: false,
    effect: 'read' as const,
  }))
const tool = (digest: string): Step => ({
  type: 'end_tool',
  step: 1,
  toolCallId: 'call_1',
  name: 'read_file',
  durationMs: 1,
  digest,
  result: { ok: true, preview: '' },
})
const COMPLETE: Step = { type: 'complete', reason: 'completed', output: 'done', delivery: null }

const within = (caps: Partial<RunFacts['constraints']>, more: Partial<RunFacts> = {}): RunFacts =>
  someFacts({ constraints: { ...DEFAULT_CONSTRAINTS, ...caps }, ...more })

/** What a command, sent twenty minutes after the run was created, comes to. */
const next = (run: Run, command: Step, at = AT + 1_200_000) => take(run, { ...command, at } as Command)

describe('a step does not start', () => {
  const limits: [string, RunFacts, Step[]][] = [
    ['limit_steps', within({ maxSteps: 2 }), [CLAIM, begin(1), end(1), begin(2), end(2)]],
    ['limit_tool_calls', within({ maxToolCalls: 2 }), [CLAIM, begin(), end(1, { calls: calls(2) })]],
    [
      'limit_tokens',
      within({ maxTokens: 100 }),
      [CLAIM, begin(), end(1, { usage: { inputTokens: 60, outputTokens: 40, cachedTokens: 60 } })],
    ],
    ['loop_detected', within({ maxIdenticalCalls: 3 }), [CLAIM, begin(), tool('a'), tool('a'), tool('a')]],
    ['limit_credits', within({ maxCredits: 1 }), [CLAIM]],
  ]
  test.each(limits)('beyond %s', (reason, facts, commands) => {
    expect(next(lived(facts, commands), begin(9)).refusal).toMatchObject({ refused: 'limit', reason })
  })

  test('once a cancel is wished for', () => {
    const run = lived(someFacts(), [CLAIM, { type: 'cancel', by: 'key_1' }])
    expect(next(run, begin()).refusal).toEqual({ refused: 'cancel_requested' })
  })

  test('and may start one short of each limit', () => {
    const facts = within({ maxSteps: 2, maxToolCalls: 2, maxTokens: 100, maxIdenticalCalls: 3 })
    const usage = { inputTokens: 60, outputTokens: 39, cachedTokens: 0 }
    const run = lived(facts, [CLAIM, begin(), end(1, { usage, calls: calls(1) }), tool('a'), tool('a')])
    expect(next(run, begin(2), AT + 10_000).refusal).toBeNull()
  })

  test('as a repetition when another call came between', () => {
    const commands = [CLAIM, begin(), tool('a'), tool('a'), tool('b'), tool('a')]
    expect(next(lived(within({ maxIdenticalCalls: 3 }), commands), begin(2)).refusal).toBeNull()
  })
})

describe('work is refused', () => {
  test.each<[string, Step[]]>([
    ['before the run is claimed', []],
    ['when it has ended', [CLAIM, COMPLETE]],
  ])('%s', (_when, commands) => {
    for (const command of [begin(), end(), COMPLETE, { type: 'stopped', how: 'agreed' } as const]) {
      expect(next(lived(someFacts(), commands), command).refusal).not.toBeNull()
    }
  })
})

describe('a claim', () => {
  test('starts a run, and resumes one that was started', () => {
    const run = lived(someFacts(), [])
    const [started] = next(run, CLAIM).events
    expect(started).toMatchObject({ type: 'run.started', data: { attempt: 1 } })
    const [resumed] = next(lived(someFacts(), [CLAIM, begin()]), { ...LOST, fromStep: 0 } as Step).events
    expect(resumed).toMatchObject({
      type: 'run.resumed',
      data: { attempt: 2, fromStep: 0, cause: 'worker_lost' },
    })
  })

  test('forgets the steps that the restored workspace does not hold', () => {
    const run = lived(someFacts(), [CLAIM, begin(1), end(1), begin(2), end(2), begin(3)])
    expect(next(run, { ...LOST, fromStep: 1 } as Step).after.forgotten).toEqual([[2, 3]])
    expect(next(run, { ...LOST, fromStep: 3 } as Step).after.forgotten).toEqual([])
  })

  test('without a new step ends the run the fourth time in a row', () => {
    const run = lived(someFacts(), [CLAIM, begin(), LOST, begin(), LOST, begin()])
    expect(run.strikes).toBe(MAX_STRIKES)
    expect(next(run, LOST).after).toMatchObject({
      state: 'failed',
      statusReason: 'agent_error',
      outcome: { stopped: { how: 'fenced' } },
    })
  })

  test('after a journaled step begins to count anew', () => {
    const run = lived(someFacts(), [CLAIM, LOST, begin(), end(), LOST])
    expect(next(run, LOST).after.state).toBe('running')
  })

  test('of a run that was handed back is no strike', () => {
    const back: Step = { type: 'claim', cause: 'handed_back' }
    const run = lived(someFacts(), [CLAIM, back, back, back, back])
    expect(run).toMatchObject({ state: 'running', attempt: 5, strikes: 1 })
    expect(next(run, LOST).after.state).toBe('running')
  })

  test('of a run that is to be canceled ends it: nobody works on it any more', () => {
    const run = lived(someFacts(), [CLAIM, { type: 'cancel', by: 'key_1' }])
    expect(next(run, LOST).after).toMatchObject({
      state: 'canceled',
      outcome: { stopped: { how: 'fenced' }, error: { code: 'CANCELED_BY_USER' } },
    })
    expect(next(run, { type: 'claim', cause: 'handed_back' }).after.outcome?.stopped?.how).toBe('agreed')
  })
})

describe('a cancel', () => {
  const CANCEL: Step = { type: 'cancel', by: 'key_1' }
  test('is final at once for a run that has not started', () => {
    const { after } = next(lived(someFacts(), []), CANCEL)
    expect(after).toMatchObject({ state: 'canceled', chargedMicro: 0, heldMicro: 0 })
    expect(after.outcome?.stopped?.how).toBe('never_started')
  })

  test('waits for the holder of a run at work, and is said once', () => {
    const asked = next(lived(someFacts(), [CLAIM]), CANCEL)
    expect(asked.after.state).toBe('running')
    expect(next(asked.after, CANCEL).events).toEqual([])
    for (const how of ['agreed', 'killed'] as const) {
      const stopped = next(asked.after, { type: 'stopped', how })
      expect(stopped.after).toMatchObject({ state: 'canceled', outcome: { stopped: { how } } })
    }
  })

  test('is refused by a run that has ended', () => {
    expect(next(lived(someFacts(), [CLAIM, COMPLETE]), CANCEL).refusal).toEqual({ refused: 'run_finished' })
  })
})

describe('deadlines', () => {
  test('a run that waits too long expires, and may be tried again', () => {
    const run = lived(within({ maxQueueSeconds: 60 }), [])
    expect(dueAt(run)).toBe(AT + 60_000)
    expect(next(run, { type: 'tick' }, AT + 60_000).after).toMatchObject({
      statusReason: 'queue_expired',
      outcome: { error: { retryable: true }, stopped: { how: 'never_started' } },
    })
  })

  test('a run that works too long ends as limit_time and pays for what was done', () => {
    const run = lived(within({ maxDurationSeconds: 600 }), [CLAIM])
    const due = AT + 601_000 + 60_000
    expect(dueAt(run)).toBe(due)
    expect(next(run, { type: 'tick' }, due - 1).after).toBe(run)
    expect(next(run, { type: 'tick' }, due).after).toMatchObject({
      statusReason: 'limit_time',
      runningMs: 660_000,
      chargedMicro: 2_000_000,
      outcome: { stopped: { how: 'fenced', at: new Date(due).toISOString() } },
    })
  })

  test('a run whose holder ends it says how its work stopped; one that completes has nothing to say', () => {
    const limit: Step = { type: 'fail', reason: 'limit_steps', stage: 'agent', message: 'No more.' }
    const run = lived(someFacts(), [CLAIM])
    expect(next(run, limit).after.outcome?.stopped?.how).toBe('agreed')
    expect(next(run, { ...limit, how: 'killed' }).after.outcome?.stopped?.how).toBe('killed')
    expect(next(run, COMPLETE).after.outcome?.stopped).toBeNull()
  })

  test('a run that nobody held when its time was over is not taken up again', () => {
    const run = lived(within({ maxDurationSeconds: 600 }), [CLAIM])
    const claim = { type: 'claim' as const, cause: 'worker_lost' as const }
    expect(next(run, claim, AT + 600_999).after).toMatchObject({ state: 'running', attempt: 2 })
    expect(next(run, claim, AT + 601_000).after).toMatchObject({
      state: 'failed',
      statusReason: 'limit_time',
    })
  })
})

describe('money', () => {
  test('a step raises the hold to all so far, its worst case and five minutes, in whole credits', () => {
    const worstCase = { inputTokens: 10_000, outputTokens: 1_000, cachedTokens: 0 }
    const command: Step = { type: 'begin_step', step: 1, model: 'openai/listed', worstCase }
    const { after } = next(lived(someFacts({ reserveMicro: 0 }), [CLAIM]), command, AT + 11_000)
    // 10 × 0.1 + 1 × 0.4 credits of tokens, 10 s of work and 300 s ahead at 0.1 credits a minute: 1.92.
    expect(after.heldMicro).toBe(2_000_000)
  })

  test('cached tokens have a price of their own, and a model without one is estimated', () => {
    const usage = { inputTokens: 10_000, outputTokens: 0, cachedTokens: 9_000 }
    const listed = next(lived(someFacts(), [CLAIM]), end(1, { model: 'openai/listed', usage }))
    expect(listed.after).toMatchObject({ costMicro: 190_000, estimated: false })
    const unknown = next(lived(someFacts(), [CLAIM]), end(1, { model: 'x/y', usage }))
    expect(unknown.after).toMatchObject({ costMicro: 950_000, estimated: true })
  })

  test('a run is never charged more than it holds', () => {
    const usage = { inputTokens: 0, outputTokens: 10_000_000, cachedTokens: 0 }
    const run = lived(someFacts({ reserveMicro: 2_000_000 }), [CLAIM, end(1, { usage })])
    expect(next(run, COMPLETE).after).toMatchObject({ chargedMicro: 2_000_000, heldMicro: 0 })
  })

  test('a test run costs nothing', () => {
    const facts = someFacts({ mode: 'test', prices: null, reserveMicro: 0 })
    const run = lived(facts, [CLAIM, begin(), end(), COMPLETE])
    expect(run).toMatchObject({ state: 'completed', chargedMicro: 0, costMicro: 0 })
  })

  test('the prices of a run are those of when it was created', () => {
    const dear = { ...PRICES, perMinute: 60_000_000 }
    const run = lived(someFacts({ prices: dear }), [CLAIM])
    expect(next(run, COMPLETE, AT + 4_000).after.chargedMicro).toBe(3_000_000)
  })
})

describe('a create', () => {
  test('holds what the run reserves', () => {
    const { after } = take(unborn(someFacts()), { type: 'create', at: AT })
    expect(after).toMatchObject({ state: 'queued', lastSeq: 1, heldMicro: 50_000_000 })
  })
})
