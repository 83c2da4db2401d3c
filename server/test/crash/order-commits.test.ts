import { afterAll, beforeAll, describe, test, vi } from 'vitest'
import { lackingJail } from '../hostile/arena.ts'
import { OrderWorld } from './order-world.ts'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 90_000 })

interface Blow {
  point: 'commit.before' | 'commit.after'
  count: number
  orders: number
}

/** Commits are counted from when the orders were taken. `AGENTGATE_SOAK` tries each of one order; else several orders at once are met where each of them is. */
const BLOWS: readonly Blow[] = process.env['AGENTGATE_SOAK']
  ? Array.from({ length: 16 }, (_, n) => n + 1).flatMap((count): Blow[] => [
      { point: 'commit.before', count, orders: 1 },
      { point: 'commit.after', count, orders: 1 },
    ])
  : [
      { point: 'commit.before', count: 9, orders: 3 },
      { point: 'commit.after', count: 24, orders: 3 },
    ]

describe.skipIf(lackingJail !== null)('a gateway that dies at a decision of a work order', () => {
  let world: OrderWorld
  beforeAll(async () => {
    world = await OrderWorld.open()
  })
  afterAll(() => world?.[Symbol.asyncDispose]())

  test.each(BLOWS)(
    'at $point number $count of $orders goes on after its next start: one pull request, one charge, the same tree',
    async ({ orders: count, ...plan }) => {
      const orders = await Promise.all(Array.from({ length: count }, () => world.submit()))
      world.tell({ type: 'die', plan })
      await world.died()
      await world.start()
      await world.expectOnce(orders)
    },
  )
})
