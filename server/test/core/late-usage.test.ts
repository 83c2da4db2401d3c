import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RunFacts, RunId } from '../../src/domain/facts.ts'
import type { HeldRun, Performer } from '../../src/domain/performer.ts'
import { findAccount } from '../../src/storage/accounts.ts'
import { bookLateUsage, insertLateUsage, listUnbooked } from '../../src/storage/late-usage.ts'
import { type EngineRoom, factsOf, openEngineRoom, patient, storedRun } from './engine-room.ts'
import { costing, endOf, MICRO, PRICES, tokens } from './priced-step.ts'

let room: EngineRoom
beforeAll(async () => {
  room = await openEngineRoom()
})
afterAll(() => room[Symbol.asyncDispose]())

const factsFor = (organization: string, reserve = 5): RunFacts =>
  factsOf(organization, { reserveMicro: reserve * MICRO, prices: PRICES })

async function finishedRun(organization: string, cost = 1): Promise<RunFacts> {
  await using worker = await room.engine({ performer: costing(() => ({ most: 0, cost })) })
  const facts = factsFor(organization)
  await worker.create(facts)
  await worker.finished(facts.id)
  return facts
}

const entriesOf = (runId: RunId) =>
  room.database.query<{ kind: string; micro: number }>(
    "select kind, micro from ledger where run_id = $1 and kind in ('deduct', 'late') order by id",
    [runId],
  )

/** A worker that loses its run in the middle of a model call, and hears the answer when `answer` is called. */
async function losing(organization: string): Promise<{
  facts: RunFacts
  answer: () => Promise<void>
  close: () => Promise<void>
}> {
  let begun: (held: HeldRun) => void = () => undefined
  const asked = new Promise<HeldRun>((resolve) => {
    begun = resolve
  })
  let answer = (): void => undefined
  const answered = new Promise<void>((resolve) => {
    answer = resolve
  })
  const slow: Performer = {
    resumePoint: async () => 0,
    async perform(held) {
      await held.send({ type: 'begin_step', step: 1, model: 'm', worstCase: tokens(2) })
      begun(held)
      await answered
      await held.send(endOf(1, 2))
    },
  }
  const worker = await room.engine({ performer: slow, leaseMs: 1 })
  const facts = factsFor(organization)
  await worker.create(facts)
  await asked
  return {
    facts,
    async answer() {
      answer()
      await expect.poll(() => worker.engine.isIdle).toBe(true)
    },
    close: async () => worker[Symbol.asyncDispose](),
  }
}

test('usage that comes when its run has ended elsewhere is an entry of its own, and the run stays as it was', async () => {
  const organization = await room.organization(20)
  const lost = await losing(organization)
  const { id } = lost.facts
  await using other = await room.engine({ performer: costing(() => ({ most: 0, cost: 1 })) })
  await other.engine.rounds.claims.tick()
  await other.finished(id)
  const before = await storedRun(room.database, id)

  await lost.answer()

  expect(await entriesOf(id)).toEqual([
    { kind: 'deduct', micro: MICRO },
    { kind: 'late', micro: 2 * MICRO },
  ])
  expect(await storedRun(room.database, id)).toEqual(before)
  expect(await findAccount(room.database, organization)).toMatchObject({
    spentMicro: 3 * MICRO,
    reservedMicro: 0,
  })
  expect(await room.findings()).toEqual([])
  await lost.close()
})

test('usage that comes while another worker holds the run is booked when the run is over', async () => {
  const organization = await room.organization(20)
  const lost = await losing(organization)
  const { id } = lost.facts
  let finish = (): void => undefined
  const mayFinish = new Promise<void>((resolve) => {
    finish = resolve
  })
  const inner = costing(() => ({ most: 0, cost: 1 }))
  await using other = await room.engine({
    performer: {
      ...inner,
      async perform(held) {
        await mayFinish
        await inner.perform(held)
      },
    },
  })
  await other.engine.rounds.claims.tick()

  await lost.answer()
  expect(await entriesOf(id)).toEqual([])
  expect(await listUnbooked(room.database, 10)).toEqual([])

  finish()
  await other.finished(id)
  expect(await listUnbooked(room.database, 10)).toEqual([id])
  expect(await bookLateUsage(room.database, id, new Date())).toBe(1)
  expect(await entriesOf(id)).toEqual([
    { kind: 'deduct', micro: MICRO },
    { kind: 'late', micro: 2 * MICRO },
  ])
  expect(await listUnbooked(room.database, 10)).toEqual([])
  expect(await room.findings()).toEqual([])
  await lost.close()
})

test('late usage is booked once, however often it is told and whoever books it', async () => {
  const organization = await room.organization(20)
  const facts = await finishedRun(organization)
  const at = new Date()
  for (const credits of [2, 7]) {
    await insertLateUsage(room.database, facts, { step: 2, model: 'm', usage: tokens(credits), at })
  }
  const booked = await Promise.all(
    Array.from({ length: 8 }, () => bookLateUsage(room.database, facts.id, at)),
  )
  expect(booked.toSorted((a, b) => a - b)).toEqual([0, 0, 0, 0, 0, 0, 0, 1])
  expect((await entriesOf(facts.id)).filter(({ kind }) => kind === 'late')).toEqual([
    { kind: 'late', micro: 2 * MICRO },
  ])
  expect(await room.findings()).toEqual([])
})

test('rounding happens once, over the run and what came late', async () => {
  const organization = await room.organization(20)
  const facts = await finishedRun(organization, 0.2)
  for (const step of [2, 3, 4]) {
    const usage = tokens(0.3)
    await insertLateUsage(room.database, facts, { step, model: 'm', usage, at: new Date() })
    await bookLateUsage(room.database, facts.id, new Date())
  }
  expect((await entriesOf(facts.id)).map(({ micro }) => micro / MICRO)).toEqual([1, 0, 0, 1])
  expect(await room.findings()).toEqual([])
})

test('an account is never charged more than it has: the rest is ours', async () => {
  const organization = await room.organization(8)
  const facts = await finishedRun(organization)
  await using worker = await room.engine({ performer: patient })
  await worker.create(factsFor(organization))
  await insertLateUsage(room.database, facts, { step: 2, model: 'm', usage: tokens(9), at: new Date() })
  await bookLateUsage(room.database, facts.id, new Date())
  expect(await findAccount(room.database, organization)).toMatchObject({
    spentMicro: 3 * MICRO,
    reservedMicro: 5 * MICRO,
  })
  expect(await room.findings()).toEqual([])
})
