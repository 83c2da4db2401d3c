import { afterAll, beforeAll, describe, test, vi } from 'vitest'
import { RACE_POINTS } from '../../src/conduct/race-points.ts'
import { lackingJail } from '../hostile/arena.ts'
import { OrderWorld } from './order-world.ts'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 90_000 })

/** As many orders as the gateway works on at once, each held at another point when it dies. */
const ROUNDS = [RACE_POINTS.slice(0, 8), RACE_POINTS.slice(8)]

describe.skipIf(lackingJail !== null)('a gateway that dies while orders stand', () => {
  let world: OrderWorld
  beforeAll(async () => {
    world = await OrderWorld.open()
  })
  afterAll(() => world?.[Symbol.asyncDispose]())

  test.each(ROUNDS.map((points) => [points.join(', '), points] as const))(
    'at %s goes on with them after its next start: one pull request, one charge, the same tree each',
    async (_names, points) => {
      world.tell({ type: 'stage' })
      const orders = await Promise.all(
        points.map(async (point) => {
          const order = await world.submit()
          world.tell({ type: 'hold', runId: order.id, point })
          return order
        }),
      )
      await world.areHeld(orders)
      await world.kill()
      await world.start()
      await world.expectOnce(orders)
    },
  )
})
