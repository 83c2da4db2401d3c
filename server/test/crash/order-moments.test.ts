import { readdirSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { lackingJail } from '../hostile/arena.ts'
import { type Order, OrderWorld } from './order-world.ts'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 90_000 })

/** Long enough to be met together; nobody else on this machine waits for exactly so long. */
const WAITS = { setup: '3.0113', command: '3.0117', gate: '3.0119' }

const sleeps = (wait: string): boolean =>
  readdirSync('/proc').some((pid) => {
    if (!/^\d+$/.test(pid)) return false
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`sleep\0${wait}`)
    } catch {
      return false
    }
  })

/** What each order is doing when the gateway is killed, all of them at once. */
const MOMENTS = {
  clone: 'git-upload-pack',
  push: 'git-receive-pack',
  open: '/pulls',
} as const

/** A request that is under way for as long as the gateway lives, and takes no effect. */
const endless = (path: string) => ({ method: 'POST', path, delayMs: 3_600_000, times: 1 })

describe.skipIf(lackingJail !== null)('a gateway that is killed', () => {
  let world: OrderWorld
  beforeAll(async () => {
    world = await OrderWorld.open(WAITS)
  })
  afterAll(() => world?.[Symbol.asyncDispose]())

  /** Resolves at the first moment at which this holds. */
  const until = (holds: () => boolean): Promise<void> =>
    expect.poll(holds, { interval: 50, timeout: 60_000 }).toBe(true)
  const asked = ({ host }: Order, path: string): boolean =>
    host.requests.some((request) => request.method === 'POST' && request.path.includes(path))

  test('while orders clone, install, run a command and a gate, push and open a pull request goes on with them after its next start: one pull request, one charge, the same tree each', async () => {
    world.tell({ type: 'stage' })
    const asking = await Promise.all(
      Object.values(MOMENTS).map(async (path) => {
        const order = await world.submit(endless(path))
        // Goes on, whether its worker has come to where it waits to be told or not.
        world.tell({ type: 'release', runId: order.id })
        return { path, order }
      }),
    )
    const working = await Promise.all(
      ['setup.before', 'command.before', 'gate.before'].map(async (point) => {
        const order = await world.submit()
        world.tell({ type: 'hold', runId: order.id, point })
        return order
      }),
    )
    await until(() => asking.every(({ order, path }) => asked(order, path)))
    await world.areHeld(working)
    for (const { id } of working) world.tell({ type: 'release', runId: id })
    await until(() => Object.values(WAITS).every(sleeps))
    await world.kill()
    await world.start()
    await world.expectOnce([...asking.map(({ order }) => order), ...working])
  })
})
