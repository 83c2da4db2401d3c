import { afterAll, beforeAll, expect, test } from 'vitest'
import { ANSWERED, type Cases, expectFailure, finish, startCases, write } from '../harness/cases.ts'

/** 17 credits at the price of a model without one; the most that a step may cost is little more. */
const DEAR = { inputTokens: 2_000, outputTokens: 8_000, cachedTokens: 0 }

let cases: Cases
let repository: string
beforeAll(async () => {
  const steps = Array.from({ length: 9 }, (_, n) => ({ ...write('answer.txt', `right ${n}\n`), usage: DEAR }))
  cases = await startCases([...steps, finish()], { AGENTGATE_INITIAL_CREDITS: '60' })
  repository = (await cases.host()).repository
})
afterAll(() => cases[Symbol.asyncDispose]())

test('an order that the account cannot cover is refused with both figures, and leaves nothing behind', async () => {
  const { client } = cases.here.gate
  const constraints = { maxCredits: 61 }
  await expect(cases.submit({ repository, constraints })).rejects.toMatchObject({
    name: 'InsufficientCreditsError',
    status: 402,
    code: 'INSUFFICIENT_CREDITS',
    details: { required: 61, available: 60 },
  })
  expect(await client.credits.get()).toMatchObject({ totalCreditsCents: 60, reservedCreditsCents: 0 })
  expect((await client.runs.list()).data).toEqual([])
})

test('a run whose next step the account cannot cover ends there and is charged what it did', async () => {
  const { client } = cases.here.gate
  const run = await cases.run({ repository, gatePlan: ANSWERED })
  expectFailure(run, { reason: 'insufficient_credits', stage: 'agent', says: /credit/ })
  expect(run.usage.steps).toBe(3)
  expect(run.cost.credits).toBeGreaterThanOrEqual(51)
  expect(await client.credits.get()).toMatchObject({
    totalCreditsCents: 60 - run.cost.credits,
    reservedCreditsCents: 0,
  })
  expect((await cases.artifacts(run.id)).get('changes.diff')?.text).toContain('+right 2')
  const { data: charged } = await client.credits.usage.list({ runId: run.id })
  expect(charged.map(({ type, amountCents }) => [type, amountCents])).toEqual([
    ['deduction', -run.cost.credits],
  ])
})

test('with more credit the same order can be repeated', async () => {
  const { client } = cases.here.gate
  await client.credits.grants.create({ amountCents: 500 })
  const [failed] = (await client.runs.list()).data
  const again = await client.runs.retry(failed?.id ?? '')
  expect(await cases.wait(again.id)).toMatchObject({ state: 'completed', verification: 'passed' })
})
