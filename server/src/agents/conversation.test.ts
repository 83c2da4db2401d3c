import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { JournalEntry } from '../domain/agent.ts'
import { isJsonObject, type JsonObject } from '../domain/json.ts'
import type { RequestedCall } from '../domain/tool-call.ts'
import { conversationOf } from './conversation.ts'
import { estimateTokens } from './model-step.ts'

const MODEL = 'openai/gpt-5'

interface Plan {
  calls: number
  resultChars: number
  feedback: boolean
}

/** A journal of the given steps, as a real run would leave it. */
function journalOf(plan: readonly Plan[]): JournalEntry[] {
  return plan.flatMap(({ calls: count, resultChars, feedback }, at): JournalEntry[] => {
    const step = at + 1
    const calls = Array.from(
      { length: count },
      (_, index): RequestedCall => ({
        id: `call_${step}_${index}`,
        providerId: `p${step}_${index}`,
        name: 'look',
        arguments: { step, index },
      }),
    )
    const content: JsonObject[] = [
      { type: 'text', text: `Step ${step}.` },
      ...calls.map((call) => ({
        type: 'tool-call',
        toolCallId: call.providerId,
        toolName: call.name,
        input: call.arguments,
      })),
    ]
    return [
      {
        kind: 'step',
        step,
        iteration: 1,
        record: { model: MODEL, finish: 'tool-calls', messages: [{ role: 'assistant', content }] },
        text: `Step ${step}.`,
        calls,
        usage: { inputTokens: 0, outputTokens: 0, cachedTokens: 0 },
      },
      ...calls.map(
        (call): JournalEntry => ({
          kind: 'tool',
          step,
          callId: call.id,
          outcome: { ok: true, content: `${call.providerId} `.padEnd(resultChars, 'x') },
        }),
      ),
      ...(feedback ? [{ kind: 'feedback', step, iteration: 2, text: `Gate at ${step}.` } as const] : []),
    ]
  })
}

const partsOf = (message: JsonObject): JsonObject[] =>
  Array.isArray(message['content']) ? message['content'].filter(isJsonObject) : []

const idsOf = (message: JsonObject | undefined, type: string): unknown[] =>
  message ? partsOf(message).flatMap((part) => (part['type'] === type ? [part['toolCallId']] : [])) : []

const plans = fc.array(
  fc.record({
    calls: fc.integer({ min: 0, max: 3 }),
    resultChars: fc.integer({ min: 0, max: 3_000 }),
    feedback: fc.boolean(),
  }),
  { maxLength: 40 },
)

test('whatever is left out, each call keeps its one result, right after it', () => {
  fc.assert(
    fc.property(plans, fc.integer({ min: 200, max: 30_000 }), (plan, budgetTokens) => {
      const messages = conversationOf({ input: 'Go.' }, journalOf(plan), { model: MODEL, budgetTokens })
      expect(messages[0]).toEqual({ role: 'user', content: 'Go.' })
      for (const [at, message] of messages.entries()) {
        const calls = idsOf(message, 'tool-call')
        const next = messages[at + 1]
        if (calls.length > 0) expect(idsOf(next, 'tool-result')).toEqual(calls)
        if (message['role'] === 'tool') expect(idsOf(messages[at - 1], 'tool-call').length).toBeGreaterThan(0)
      }
    }),
    { numRuns: 200 },
  )
})

test('a conversation is the same whenever it is built, and leaves the journal alone', () => {
  const journal = journalOf(
    Array.from({ length: 40 }, () => ({ calls: 2, resultChars: 2_000, feedback: false })),
  )
  const before = structuredClone(journal)
  const build = () => conversationOf({ input: 'Go.' }, journal, { model: MODEL, budgetTokens: 12_000 })
  expect(build()).toEqual(build())
  expect(journal).toEqual(before)
})

test('within the budget nothing is left out', () => {
  const journal = journalOf([{ calls: 1, resultChars: 3_000, feedback: true }])
  const text = JSON.stringify(
    conversationOf({ input: 'Go.' }, journal, { model: MODEL, budgetTokens: 10_000 }),
  )
  expect(text).toContain('x'.repeat(2_900))
  expect(text).toContain('Gate at 1.')
})

test('old results go first, then the oldest steps give way to what they did; the latest stay whole', () => {
  const journal = journalOf(
    Array.from({ length: 40 }, (_, at) => ({ calls: 1, resultChars: 2_000, feedback: at === 1 })),
  )
  const at = (budgetTokens: number) => {
    const messages = conversationOf({ input: 'Go.' }, journal, { model: MODEL, budgetTokens })
    const text = JSON.stringify(messages)
    expect(estimateTokens(text.length)).toBeLessThanOrEqual(budgetTokens)
    for (let step = 35; step <= 40; step++) expect(text).toContain(`p${step}_0 xxx`)
    return text
  }
  const elided = at(14_000)
  expect(elided).toContain('2000 characters of an old result are left out')
  expect(elided).toContain('Step 1.')
  expect(elided).not.toContain('Earlier steps')

  const summarised = at(7_000)
  expect(summarised).toContain('Earlier steps')
  expect(summarised).toContain('You called look {\\"step\\":1,\\"index\\":0}: went well')
  expect(summarised).toContain('You were told: Gate at 2.')
})

test('the beginning stays the same for several steps, so that a provider can cache it', () => {
  const plan = Array.from({ length: 40 }, () => ({ calls: 1, resultChars: 2_000, feedback: false }))
  const heads = new Set<string>()
  for (let steps = 24; steps <= 40; steps++) {
    const messages = conversationOf({ input: 'Go.' }, journalOf(plan.slice(0, steps)), {
      model: MODEL,
      budgetTokens: 14_000,
    })
    heads.add(JSON.stringify(messages.slice(0, 24)))
  }
  expect(heads.size).toBeLessThanOrEqual(4)
})

test('a call whose outcome was lost still has an answer', () => {
  const journal = journalOf([{ calls: 2, resultChars: 10, feedback: false }]).filter(
    (entry) => entry.kind !== 'tool' || entry.callId !== 'call_1_0',
  )
  const text = JSON.stringify(
    conversationOf({ input: 'Go.' }, journal, { model: MODEL, budgetTokens: 10_000 }),
  )
  expect(text).toContain('The result of this call was lost.')
})

test('an input that is an object is shown as JSON', () => {
  expect(conversationOf({ input: { a: 1 } }, [], { model: MODEL, budgetTokens: 100 })).toEqual([
    { role: 'user', content: '{\n  "a": 1\n}' },
  ])
})

test('words that fit no conversation are cut in it, and stay whole in the journal', () => {
  const text = 'and so on '.repeat(100_000)
  const journal = journalOf([{ calls: 1, resultChars: 10, feedback: false }])
  const [step] = journal
  const content = [{ type: 'text', text }]
  if (step?.kind !== 'step') throw new Error('a journal begins with a step')
  step.record = { model: MODEL, finish: 'tool-calls', messages: [{ role: 'assistant', content }] }
  const messages = conversationOf({ input: 'Go.' }, journal, { model: MODEL, budgetTokens: 10_000 })
  expect(estimateTokens(JSON.stringify(messages).length)).toBeLessThan(10_000)
  expect(JSON.stringify(messages)).toContain('characters left out')
  expect(content[0]?.text).toBe(text)
})
