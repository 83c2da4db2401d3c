import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { DatabaseError } from '../../src/storage/database-error.ts'
import { type EngineRoom, factsOf, openEngineRoom, storedRun } from './engine-room.ts'

let room: EngineRoom
beforeEach(async () => {
  room = await openEngineRoom()
})
afterEach(() => room[Symbol.asyncDispose]())

/** Loses the answer of the commits with these numbers: each is durable, and the connection dies before it says so. */
function losing(...lost: number[]): (name: string) => Promise<void> {
  let commits = 0
  return async (name) => {
    if (name !== 'commit.after') return
    commits++
    if (lost.includes(commits)) throw new DatabaseError(new Error('Connection terminated unexpectedly'))
  }
}

describe('a commit without an answer', () => {
  test.each([1, 2, 3, 4, 5, 6, 7, 8])('is not applied twice, whichever it is: number %i', async (n) => {
    const organization = await room.organization(10)
    await using opened = await room.engine({ pause: losing(n) })
    const facts = factsOf(organization, { webhookUrl: 'https://hooks.example.com/' })
    await opened.create(facts)
    const run = await opened.finished(facts.id)
    expect(run).toMatchObject({
      state: 'completed',
      attempt: 1,
      usage: { steps: 3 },
      chargedMicro: 1_000_000,
    })
    expect(await room.findings()).toEqual([])
  })

  test('is a create for which the credit was there, though it would not be there twice', async () => {
    const organization = await room.organization(5)
    await using opened = await room.engine({ pause: losing(1) })
    const facts = factsOf(organization, { reserveMicro: 5_000_000 })
    await expect(opened.create(facts)).resolves.toMatchObject({ state: 'queued' })
    expect(await opened.finished(facts.id)).toMatchObject({ state: 'completed' })
    expect(await room.findings()).toEqual([])
  })

  test('is a claim for which there was room, though there would not be room twice', async () => {
    const organization = await room.organization()
    await using opened = await room.engine({ pause: losing(1), capOf: () => 1 })
    const facts = factsOf(organization)
    await opened.create(facts)
    expect(await opened.finished(facts.id)).toMatchObject({ state: 'completed', attempt: 1 })
    expect(await room.findings()).toEqual([])
  })

  test('is a claim from the queue for which there was room', async () => {
    const organization = await room.organization()
    await using api = await room.engine({ slots: 0 })
    const facts = factsOf(organization)
    await api.create(facts)
    await using worker = await room.engine({ pause: losing(1), capOf: () => 1 })
    await worker.engine.rounds.claims.tick()
    expect(await worker.finished(facts.id)).toMatchObject({ state: 'completed', attempt: 1 })
    expect(await room.findings()).toEqual([])
  })

  test('keeps its idempotency key with the run it made', async () => {
    const organization = await room.organization()
    await using opened = await room.engine({ pause: losing(1) })
    const idempotency = { route: 'POST /v1/runs', key: 'k', bodyHash: 'a', tenantId: '' }
    const facts = factsOf(organization)
    const created = await opened.engine.createRun(facts, { idempotency })
    expect(created).toMatchObject({ replayed: false, run: { facts: { id: facts.id } } })
    const again = await opened.engine.createRun(factsOf(organization), { idempotency })
    expect(again).toMatchObject({ replayed: true, run: { facts: { id: facts.id } } })
  })

  test('that somebody else has gone on from was applied all the same', async () => {
    const organization = await room.organization()
    await using other = await room.engine({ slots: 0 })
    const facts = factsOf(organization)
    let lose = true
    await using opened = await room.engine({
      pause: async (name) => {
        if (name !== 'commit.after' || !lose) return
        lose = false
        await other.engine.cancelRun(facts.id, 'key_other')
        throw new DatabaseError(new Error('Connection terminated unexpectedly'))
      },
    })
    await expect(opened.create(facts)).resolves.toMatchObject({ state: 'queued' })
    await opened.finished(facts.id)
    expect(await storedRun(room.database, facts.id)).toMatchObject({ cancelRequestedAt: expect.any(Number) })
    expect(await room.findings()).toEqual([])
  })
})
