import { afterAll, beforeAll, expect, test } from 'vitest'
import { findHeldRun } from '../../src/storage/runs.ts'
import { type EngineRoom, factsOf, gatedPerformer, openEngineRoom, patient } from './engine-room.ts'

let room: EngineRoom
beforeAll(async () => {
  room = await openEngineRoom()
})
afterAll(() => room[Symbol.asyncDispose]())

test('a cancel decided before a hand-back and written after it does not give the run its old holder again', async () => {
  const facts = factsOf(await room.organization())
  const gated = gatedPerformer(patient)
  const worker = await room.engine({ performer: gated })
  await worker.create(facts)
  await gated.entered(facts.id)

  let resume = (): void => undefined
  const handedBack = new Promise<void>((resolve) => {
    resume = resolve
  })
  let arrive = (): void => undefined
  const atCommit = new Promise<void>((resolve) => {
    arrive = resolve
  })
  await using api = await room.engine({
    slots: 0,
    pause: async (name) => {
      if (name !== 'commit.before') return
      arrive()
      await handedBack
    },
  })
  const canceling = api.engine.cancelRun(facts.id, 'key_1')
  await atCommit
  await worker[Symbol.asyncDispose]()
  resume()

  expect(await canceling).toMatchObject({ state: 'running' })
  const found = await findHeldRun(room.database, facts.id)
  expect(found?.run.cancelRequestedAt).not.toBeNull()
  expect(found?.holding).toEqual({ claim: null, workerId: null, handedBack: true })
})
