import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { GateError } from '../../src/domain/error.ts'
import type { RunId } from '../../src/domain/facts.ts'
import type { Performer } from '../../src/domain/performer.ts'
import { LimitReached } from '../../src/domain/performer.ts'
import { newId } from '../../src/lib/id.ts'
import { findAccount } from '../../src/storage/accounts.ts'
import { insertGrant } from '../../src/storage/credits.ts'
import { report } from '../harness/report.ts'
import { type EngineRoom, factsOf, openEngineRoom, threeSteps } from './engine-room.ts'
import { costing, endOf, MICRO, PRICES, tokens } from './priced-step.ts'

let room: EngineRoom
beforeEach(async () => {
  room = await openEngineRoom()
})
afterEach(() => room[Symbol.asyncDispose]())

const samplesBelowZero = async (
  organization: string,
  until: () => boolean,
): Promise<{ samples: number; lowest: number }> => {
  let lowest = Number.POSITIVE_INFINITY
  let samples = 0
  while (!until()) {
    const account = await findAccount(room.database, organization)
    if (account === undefined) break
    const { includedMicro, purchasedMicro, reservedMicro, spentMicro } = account
    lowest = Math.min(lowest, includedMicro + purchasedMicro - reservedMicro - spentMicro)
    samples++
  }
  return { samples, lowest }
}

describe('an account', () => {
  test('is what its ledger adds up to, whatever runs reserve, top up, spend and are refused', async () => {
    const orders = fc.array(
      fc.record({
        reserve: fc.integer({ min: 0, max: 20 }),
        topUp: fc.integer({ min: 0, max: 30 }),
        use: fc.integer({ min: 0, max: 30 }),
        grant: fc.option(fc.integer({ min: 1, max: 15 }), { freq: 4 }),
        cancel: fc.boolean(),
      }),
      { minLength: 5, maxLength: 25 },
    )
    await fc.assert(
      fc.asyncProperty(orders, fc.integer({ min: 0, max: 120 }), async (all, credits) => {
        const organization = await room.organization(credits)
        const plan = new Map<RunId, { most: number; cost: number }>()
        const performer = costing(({ facts }) => plan.get(facts.id) ?? { most: 0, cost: 0 })
        const engines = [await room.engine({ performer }), await room.engine({ performer })]
        for (const { engine } of engines) engine.start()
        const results = await Promise.all(
          all.map(async (order, i) => {
            const worker = engines[i % 2] ?? (await room.engine())
            if (order.grant !== null) await grant(organization, order.grant)
            const facts = factsOf(organization, { reserveMicro: order.reserve * MICRO, prices: PRICES })
            plan.set(facts.id, { most: order.topUp, cost: Math.min(order.use, order.topUp) })
            const created = await worker.engine
              .createRun(facts, { idempotency: null })
              .catch((error: unknown) => error)
            if (created instanceof GateError) return created.code
            if (created instanceof Error) throw created
            if (order.cancel) await worker.engine.cancelRun(facts.id, 'key').catch(() => 'it had ended')
            return (await worker.finished(facts.id)).statusReason
          }),
        )
        const allowed = ['completed', 'insufficient_credits', 'canceled_by_user', 'INSUFFICIENT_CREDITS']
        for (const result of results) expect(allowed).toContain(result)
        expect(await room.findings()).toEqual([])
        const account = await findAccount(room.database, organization)
        expect(account?.reservedMicro).toBe(0)
        for (const engine of engines) await engine[Symbol.asyncDispose]()
      }),
      { numRuns: 12 },
    )
  }, 60_000)

  test('of a hundred clients is never below zero, and its sums are exact', async () => {
    const reservations = Number(process.env['AGENTGATE_TEST_RESERVATIONS'] ?? 5_000)
    const organization = await room.organization(200)
    await using opened = await room.engine({ performer: costing(() => ({ most: 1, cost: 1 })), slots: 100 })
    opened.engine.start()
    let isOver = false
    const watching = samplesBelowZero(organization, () => isOver)
    let left = reservations
    let refused = 0
    let done = 0
    const startedAt = performance.now()
    const client = async (): Promise<void> => {
      while (left-- > 0) {
        const facts = factsOf(organization, { reserveMicro: 3 * MICRO, prices: PRICES })
        try {
          await opened.create(facts)
          await opened.finished(facts.id)
          done++
        } catch (error) {
          if (!(error instanceof GateError) || error.code !== 'INSUFFICIENT_CREDITS') throw error
          refused++
          await grant(organization, 1)
        }
      }
    }
    await Promise.all(Array.from({ length: 100 }, client))
    const seconds = (performance.now() - startedAt) / 1_000
    isOver = true
    const { samples, lowest } = await watching
    report(
      `${reservations} reservations by 100 clients: ${Math.round(reservations / seconds)}/s, ${done} runs, ${refused} refused`,
    )
    expect(lowest).toBeGreaterThanOrEqual(0)
    expect(samples).toBeGreaterThan(10)
    expect(refused).toBeGreaterThan(0)
    const account = await findAccount(room.database, organization)
    expect(account).toMatchObject({
      includedMicro: (200 + refused) * MICRO,
      reservedMicro: 0,
      spentMicro: done * MICRO,
    })
    expect(await room.findings()).toEqual([])
  }, 600_000)
})

test('a step that the credit does not cover ends its run, which pays for what was done', async () => {
  const organization = await room.organization(10)
  let refusal: unknown
  const performer: Performer = {
    ...threeSteps,
    async perform(held) {
      await held.send({ type: 'begin_step', step: 1, model: 'm', worstCase: tokens(2) })
      await held.send(endOf(1, 2))
      refusal = await held
        .send({ type: 'begin_step', step: 2, model: 'm', worstCase: tokens(9) })
        .catch((error: unknown) => error)
      throw refusal
    },
  }
  await using opened = await room.engine({ performer })
  const facts = factsOf(organization, { reserveMicro: 2 * MICRO, prices: PRICES })
  await opened.create(facts)
  expect(await opened.finished(facts.id)).toMatchObject({
    statusReason: 'insufficient_credits',
    chargedMicro: 2 * MICRO,
  })
  expect(refusal).toBeInstanceOf(LimitReached)
  expect(await room.findings()).toEqual([])
})

async function grant(organization: string, credits: number): Promise<void> {
  const at = new Date()
  await room.database.inTransaction((tx) =>
    insertGrant(tx, organization, {
      id: newId('txn', at.getTime()),
      class: 'included',
      micro: credits * MICRO,
      description: '',
      at,
    }),
  )
}
