import { expect, test } from 'vitest'
import { manualClock } from '../../test/harness/manual-clock.ts'
import { AT, lived, someFacts } from '../domain/run.fixture.ts'
import type { Run } from '../domain/run.ts'
import { Hub } from './hub.ts'

const ended = (n: number): Run => lived(someFacts({ id: `run_${n}` }), [{ type: 'cancel', by: 'user' }])

const wait = (hub: Hub, run: Run) =>
  hub.waitForRun(run.facts.id, { timeoutMs: 0, signal: new AbortController().signal })

test('whoever asks a moment too late hears of the end from memory, later ones from the log', async () => {
  const clock = manualClock(AT)
  const read: string[] = []
  const run = ended(1)
  const hub = new Hub({
    clock,
    readRun: async (id) => {
      read.push(id)
      return run
    },
  })
  hub.announce(run)
  expect(await wait(hub, run)).toBe(run)
  expect(read).toEqual([])
  clock.advance(5_000)
  expect(await wait(hub, run)).toBe(run)
  expect(read).toEqual([run.facts.id])
})

test('what is remembered of runs that ended grows neither with time nor with their number', () => {
  const clock = manualClock(AT)
  const hub = new Hub({ clock, readRun: async () => undefined })
  for (let n = 0; n < 50; n++) {
    hub.announce(ended(n))
    clock.advance(1_000)
  }
  expect(hub.remembered).toBe(5)
  for (let n = 0; n < 1_100; n++) hub.announce(ended(n))
  expect(hub.remembered).toBe(1_000)
})

test('nobody who has left is kept', async () => {
  const clock = manualClock(AT)
  const running = lived(someFacts(), [])
  const hub = new Hub({ clock, readRun: async () => running })
  const leaving = new AbortController()
  const left = hub.waitForRun(running.facts.id, { timeoutMs: 60_000, signal: leaving.signal })
  expect(hub.waiting).toBe(1)
  leaving.abort()
  await left
  expect(hub.waiting).toBe(0)
})
