import { expect, test } from 'vitest'
import { systemClock } from '../../src/lib/clock.ts'
import { asked } from '../harness/door.ts'
import { startGate } from '../harness/gate.ts'

const DAY = 86_400_000

test('events of a purged run are answered as gone, and the run still says how it ended', async () => {
  let passed = 0
  const clock = { ...systemClock, now: () => Date.now() + passed }
  await using gate = await startGate({ effects: { clock }, env: { AGENTGATE_RETENTION_DAYS: '30' } })
  const run = await gate.client.runs.create({ agent: 'scripted', input: 'x' })
  const ended = await gate.client.runs.wait(run.id)
  const eventsOf = () => asked(`${gate.url}/v1/runs/${run.id}/events`, { key: gate.liveKey })
  const purge = async (): Promise<void> => {
    while (await gate.app.housekeeping.rounds.purge.tick());
  }
  passed = 29 * DAY
  await purge()
  expect((await eventsOf()).status).toBe(200)

  passed = 31 * DAY
  await purge()

  const events = await eventsOf()
  expect(events.status).toBe(410)
  expect(events.error).toMatchObject({ code: 'EVENTS_PURGED', retryable: false })
  const shown = await gate.client.runs.get(run.id)
  expect(shown).toMatchObject({ state: 'completed', output: ended.output, cost: ended.cost })
  expect(await (await fetch(`${gate.url}/metrics`)).text()).toContain('agentgate_purged_runs_total 1\n')
})
