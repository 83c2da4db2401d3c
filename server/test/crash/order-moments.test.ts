import { readdirSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { lackingJail } from '../hostile/arena.ts'
import { type Order, OrderWorld, type Result, WAITS } from './order-world.ts'

vi.setConfig({ testTimeout: 90_000, hookTimeout: 90_000 })

const sleeps = (wait: string): boolean =>
  readdirSync('/proc').some((pid) => {
    if (!/^\d+$/.test(pid)) return false
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`sleep\0${wait}`)
    } catch {
      return false
    }
  })

describe.skipIf(lackingJail !== null)('a gateway that is killed', () => {
  let world: OrderWorld
  let undisturbed: Result
  beforeAll(async () => {
    world = await OrderWorld.open()
    undisturbed = await world.result(await world.submit())
    expect(undisturbed.run).toMatchObject({ state: 'completed', iterations: 1, attempt: 1 })
  })
  afterAll(() => world?.[Symbol.asyncDispose]())

  /** Resolves at the first moment at which this holds. */
  const until = (holds: () => boolean): Promise<void> =>
    expect.poll(holds, { interval: 2, timeout: 40_000 }).toBe(true)
  const asked = ({ name }: Order, path: string): boolean =>
    world.host.requests.some((request) => request.path.includes(name) && request.path.includes(path))

  test.each<[string, (order: Order) => Promise<void>]>([
    ['while it clones', (order) => until(() => asked(order, 'git-upload-pack'))],
    ['while dependencies are installed', () => until(() => sleeps(WAITS.setup))],
    ['while the agent’s command runs', () => until(() => sleeps(WAITS.command))],
    ['while a gate runs', () => until(() => sleeps(WAITS.gate))],
    ['while it pushes', (order) => until(() => asked(order, 'git-receive-pack'))],
    [
      'when the pull request has just been opened',
      ({ name }) => until(() => world.host.pulls('acme', name).length > 0),
    ],
  ])(
    '%s goes on after its next start: one pull request, one charge, the same tree',
    async (_when, moment) => {
      const order = await world.submit()
      await moment(order)
      await world.kill()
      await world.start()
      await world.expectOnce(order, undisturbed)
    },
  )
})
