import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { lackingJail } from '../hostile/arena.ts'
import { OrderWorld, type Result } from './order-world.ts'

vi.setConfig({ testTimeout: 90_000, hookTimeout: 90_000 })

/** `AGENTGATE_SOAK` tries every commit of the order, else some of them. */
const COUNTS = process.env['AGENTGATE_SOAK'] ? Array.from({ length: 16 }, (_, n) => n + 1) : [3, 7, 11]

describe.skipIf(lackingJail !== null)('a gateway that dies at a decision of a work order', () => {
  let world: OrderWorld
  let undisturbed: Result
  beforeAll(async () => {
    world = await OrderWorld.open()
    undisturbed = await world.result(await world.submit())
    expect(undisturbed.run).toMatchObject({ state: 'completed', iterations: 1, attempt: 1 })
  })
  afterAll(() => world?.[Symbol.asyncDispose]())

  test.each(COUNTS.flatMap((count) => ['commit.before', 'commit.after'].map((point) => ({ point, count }))))(
    'at $point number $count goes on after its next start: one pull request, one charge, the same tree',
    async ({ point, count }) => {
      await world.kill()
      await world.start({ point, count })
      const order = await world.submit()
      await world.died()
      await world.start()
      await world.expectOnce(order, undisturbed)
    },
  )
})
