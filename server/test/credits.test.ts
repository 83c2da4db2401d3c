import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RunId } from '../src/domain/facts.ts'
import { systemClock } from '../src/lib/clock.ts'
import { findAccount } from '../src/storage/accounts.ts'
import { insertLateUsage } from '../src/storage/late-usage.ts'
import { findHeldRun } from '../src/storage/runs.ts'
import { verifyDatabase } from '../src/storage/verify.ts'
import { asked, type Door, openDoor } from './harness/door.ts'

const DAY = 86_400_000

let door: Door
let aheadMs = 0
beforeAll(async () => {
  const clock = { ...systemClock, now: () => Date.now() + aheadMs }
  door = await openDoor({ env: { AGENTGATE_INITIAL_CREDITS: '0' }, effects: { clock } })
})
afterAll(() => door[Symbol.asyncDispose]())

const get = (path: string) => asked(door.url + path, { key: door.liveKey })
const grant = (body: object) =>
  asked(`${door.url}/v1/credits/grants`, { method: 'POST', key: door.liveKey, body })
const inDays = (days: number): string => new Date(Date.now() + aheadMs + days * DAY).toISOString()
const expire = () => door.app.housekeeping.rounds.money.tick()

/** Included, purchased and reserved credits. */
async function balance(): Promise<number[]> {
  const { json } = await get('/v1/credits')
  expect(json.totalCreditsCents).toBe(json.includedCreditsCents + json.purchasedCreditsCents)
  return [json.includedCreditsCents, json.purchasedCreditsCents, json.reservedCreditsCents]
}

async function findings(): Promise<unknown[]> {
  const found: unknown[] = []
  for await (const finding of verifyDatabase(door.app.database)) found.push(finding)
  return found
}

/** A run that takes a moment, or waits to be canceled. */
const start = (delayMs: number, maxCredits: number) =>
  door.client.runs.create({
    agent: 'scripted',
    input: { steps: [{ text: 'done', delayMs }] },
    constraints: { maxCredits },
  })

test('a grant may have an end, which lies ahead', async () => {
  expect((await grant({ amountCents: 30, expiresAt: inDays(-1) })).error).toMatchObject({
    code: 'INVALID_VALUE',
    details: { errors: [{ field: '/expiresAt' }] },
  })
  const expiresAt = inDays(30)
  expect((await grant({ amountCents: 30, expiresAt })).json).toMatchObject({
    type: 'grant',
    amountCents: 30,
    expiresAt,
  })
  await grant({ amountCents: 5, expiresAt: inDays(10) })
  await grant({ amountCents: 20, type: 'purchase' })
  expect(await balance()).toEqual([35, 20, 0])
})

test('what is left of a grant is taken back when it ends, but not what a run holds', async () => {
  const run = await start(3_600_000, 4)
  expect(await balance()).toEqual([35, 20, 4])
  aheadMs = 11 * DAY
  await expire()
  await expire()
  expect(await balance()).toEqual([34, 20, 4])
  expect((await get('/v1/credits/usage?type=grant&limit=1')).json.transactions).toMatchObject([
    { type: 'grant', amountCents: -1, runId: null, expiresAt: null },
  ])
  await door.client.runs.cancel(run.id)
  const { cost } = await door.client.runs.wait(run.id)
  expect(cost.credits).toBe(4)
  await expire()
  expect(await balance()).toEqual([30, 20, 0])
  aheadMs = 31 * DAY
  await expire()
  expect(await balance()).toEqual([0, 20, 0])
  expect(await findings()).toEqual([])
})

test('included credits are spent before purchased ones, and those that end first before others', async () => {
  await grant({ amountCents: 10 })
  await grant({ amountCents: 2, expiresAt: inDays(5) })
  const run = await start(0, 3)
  const { cost } = await door.client.runs.wait(run.id)
  expect(cost.credits).toBe(1)
  expect(await balance()).toEqual([11, 20, 0])
  aheadMs += 6 * DAY
  await expire()
  expect(await balance()).toEqual([10, 20, 0])
  expect(await findings()).toEqual([])
})

test('usage that came after the end of its run is a deduction of its own', async () => {
  const run = await start(0, 3)
  const ended = await door.client.runs.wait(run.id)
  const found = await findHeldRun(door.app.database, run.id as RunId)
  if (found === undefined) throw new Error('the run is gone')
  const usage = { inputTokens: 200, outputTokens: 8_000, cachedTokens: 0 }
  const late = { step: 2, model: 'openai/some', usage, at: new Date() }
  expect(await balance()).toEqual([9, 20, 0])
  await insertLateUsage(door.app.database, found.run.facts, late)
  await expire()
  await expire()
  const { json } = await get(`/v1/credits/usage?runId=${run.id}`)
  expect(json.transactions).toHaveLength(2)
  const [entry] = json.transactions
  // 16.1 credits, of which the first was begun by the run.
  expect(entry).toMatchObject({ type: 'deduction', amountCents: -16, runId: run.id })
  expect(entry.description).toContain('8200 tokens of openai/some')
  expect(await balance()).toEqual([0, 13, 0])
  expect(await door.client.runs.get(run.id)).toEqual(ended)
  expect(await findings()).toEqual([])
})

test('the billing cycle is the month that is under way', async () => {
  aheadMs = 100 * DAY
  const { json } = await get('/v1/credits')
  const now = Date.now() + aheadMs
  expect(Date.parse(json.billingCycleStart)).toBeLessThanOrEqual(now)
  expect(Date.parse(json.billingCycleEnd)).toBeGreaterThan(now)
  const [row] = await door.app.database.query<{ id: string }>(
    'select id from organization order by id limit 1',
  )
  const first = (await findAccount(door.app.database, row?.id ?? ''))?.cycleStart
  expect(new Date(json.billingCycleStart).getUTCDate()).toBe(first?.getUTCDate())
})
