import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type EngineRoom, factsOf, gatedPerformer, openEngineRoom } from './engine-room.ts'

let room: EngineRoom
beforeEach(async () => {
  room = await openEngineRoom()
})
afterEach(() => room[Symbol.asyncDispose]())

const mark = (key: string, bodyHash = 'a') => ({
  idempotency: { route: 'POST /v1/runs', key, bodyHash, tenantId: '' },
})

describe('the same key gives the same run', () => {
  test('when two processes get it at once', async () => {
    const organization = await room.organization()
    await using one = await room.engine()
    await using two = await room.engine()
    for (let i = 0; i < 20; i++) {
      const answers = await Promise.all(
        [one, two, one, two].map(({ engine }) => engine.createRun(factsOf(organization), mark(`twin ${i}`))),
      )
      expect(new Set(answers.map(({ run }) => run.facts.id)).size).toBe(1)
      expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1)
    }
    expect(await room.findings()).toEqual([])
  })

  test('when the credit is used up by then', async () => {
    const organization = await room.organization(5)
    await using opened = await room.engine({ performer: gatedPerformer() })
    const first = await opened.engine.createRun(factsOf(organization), mark('last credit'))
    const again = await opened.engine.createRun(factsOf(organization), mark('last credit'))
    expect(again).toMatchObject({ replayed: true, run: { facts: { id: first.run.facts.id } } })
    await expect(opened.engine.createRun(factsOf(organization), mark('one more'))).rejects.toMatchObject({
      code: 'INSUFFICIENT_CREDITS',
    })
  })

  test('when both arrive together and the credit is enough for one', async () => {
    const organization = await room.organization(5)
    await using opened = await room.engine({ performer: gatedPerformer() })
    const answers = await Promise.all(
      [1, 2, 3].map(() => opened.engine.createRun(factsOf(organization), mark('together'))),
    )
    expect(new Set(answers.map(({ run }) => run.facts.id)).size).toBe(1)
  })

  test('when the queue is full by then', async () => {
    const organization = await room.organization()
    await using opened = await room.engine({ slots: 0, maxQueued: 1 })
    const first = await opened.engine.createRun(factsOf(organization), mark('full'))
    const again = await opened.engine.createRun(factsOf(organization), mark('full'))
    expect(again).toMatchObject({ replayed: true, run: { facts: { id: first.run.facts.id } } })
  })

  test('as it was created, however it stands now', async () => {
    const organization = await room.organization()
    await using opened = await room.engine()
    const facts = factsOf(organization)
    await opened.engine.createRun(facts, mark('done'))
    await opened.finished(facts.id)
    const again = await opened.engine.createRun(factsOf(organization), mark('done'))
    expect(again.run).toMatchObject({ state: 'queued', lastSeq: 1 })
  })
})

test('a key that was refused for lack of credit is free', async () => {
  const organization = await room.organization(5)
  await using opened = await room.engine({ performer: gatedPerformer() })
  const dear = factsOf(organization, { reserveMicro: 6_000_000 })
  await expect(opened.engine.createRun(dear, mark('dear'))).rejects.toMatchObject({
    code: 'INSUFFICIENT_CREDITS',
  })
  const cheap = factsOf(organization)
  expect(await opened.engine.createRun(cheap, mark('dear', 'b'))).toMatchObject({ replayed: false })
})
