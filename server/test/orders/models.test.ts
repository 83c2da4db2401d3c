import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ModelFault, ModelStep } from '../../../demo/model-server.ts'
import {
  ANSWERED,
  type Cases,
  expectFailure,
  expectSettled,
  finish,
  startCases,
  stories,
  write,
} from '../harness/cases.ts'

/** The second answer goes wrong; what was said before it stands. */
const failing = (fault: ModelFault): ModelStep[] => [
  write('draft.txt', 'begun\n'),
  { ...write('answer.txt', 'right\n'), fault },
  finish('Wrote the answer.'),
]

let cases: Cases
let repository: string
beforeAll(async () => {
  const book = {
    unauthorised: failing({
      kind: 'status',
      status: 401,
      message: 'Incorrect API key provided: sk-scripted',
    }),
    forbidden: failing({ kind: 'status', status: 403 }),
    limited: failing({ kind: 'status', status: 429, retryAfter: '0', times: 2 }),
    impatient: failing({ kind: 'status', status: 429, retryAfter: '3600' }),
    broke: failing({ kind: 'status', status: 429, type: 'insufficient_quota' }),
    broken: failing({ kind: 'status', status: 500 }),
    unknown: failing({ kind: 'status', status: 404 }),
    refused: failing({ kind: 'status', status: 400 }),
    cut: failing({ kind: 'cut', times: 1 }),
    torn: failing({ kind: 'cut', after: 0, times: 1 }),
    unfinished: [
      write('draft.txt', 'begun\n'),
      {
        text: 'I am not',
        finish: 'none' as const,
        fault: { kind: 'status' as const, status: 500, times: 1 },
      },
    ],
    filtered: [{ text: 'I must not.', finish: 'content-filter' as const }],
    unmetered: [
      { ...write('answer.txt', 'right\n'), usage: null },
      { ...finish(), usage: null },
    ],
  }
  cases = await startCases(stories(book))
  repository = (await cases.host()).repository
})
afterAll(() => cases[Symbol.asyncDispose]())

const run = (story: string) => cases.run({ repository, story, gatePlan: ANSWERED })

/** How often the model was asked in one story. */
const askedIn = (story: string): number =>
  cases.here.model.requests.filter(({ body }) => new RegExp(`#${story}\\b`).test(JSON.stringify(body))).length

describe.concurrent('a model that fails for a while', () => {
  test.each([
    ['that limits the rate', 'limited', 2],
    ['that cuts its answer', 'cut', 1],
    ['that tears the connection', 'torn', 1],
  ])('%s is asked again, and the run goes on', async (_what, story, failures) => {
    const done = await run(story)
    expect(done).toMatchObject({ state: 'completed', verification: 'passed' })
    expect(done.usage.steps).toBe(3)
    expect(askedIn(story)).toBe(3 + failures)
  })
})

describe.concurrent('a model that goes on failing ends the run', () => {
  test.each([
    ['401', 'unauthorised', 'provider_auth_failed', /refused the key/, false, 1],
    ['403', 'forbidden', 'provider_auth_failed', /refused the key/, false, 1],
    ['429 with a wait of an hour', 'impatient', 'model_error', /limits the rate/, true, 1],
    ['429 because its account is empty', 'broke', 'model_error', /out of credit/, false, 1],
    ['500 each time', 'broken', 'model_error', /failed \(500\)/, true, 4],
    ['404', 'unknown', 'model_error', /does not know the model/, false, 1],
    ['400', 'refused', 'model_error', /refused the request/, false, 1],
    ['an answer that never says it is over', 'unfinished', 'model_error', /no reason for the end/, true, 4],
  ])('%s', async (_what, story, reason, says, retryable, tries) => {
    const ended = await run(story)
    expectFailure(ended, { reason, stage: 'agent', says, retryable })
    expect(askedIn(story)).toBe(1 + tries)
    expect(JSON.stringify(ended)).not.toContain('sk-scripted')
    expect((await cases.artifacts(ended.id)).get('changes.diff')?.text).toContain('+begun')
  })

  test('an answer that its provider withholds', async () => {
    const ended = await run('filtered')
    expectFailure(ended, { reason: 'model_error', stage: 'agent', says: /content filter/ })
    expect(ended.usage.inputTokens).toBeGreaterThan(0)
  })
})

test('a model that reports no usage is charged by estimate, and says so', async () => {
  const done = await run('unmetered')
  expect(done).toMatchObject({ state: 'completed', cost: { estimated: true } })
  expect(done.usage.inputTokens).toBeGreaterThan(0)
})

test('none of these runs still holds credit, and each was charged what it says', async () => {
  await expectSettled(cases)
})
