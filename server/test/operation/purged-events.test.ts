import { expect, test } from 'vitest'
import { startGate } from '../harness/gate.ts'

test('events of a purged run are answered as gone, and the run still says how it ended', async () => {
  await using gate = await startGate({ env: { AGENTGATE_RETENTION_DAYS: '1' } })
  const run = await gate.client.runs.create({ agent: 'scripted', input: 'x' })
  const ended = await gate.client.runs.wait(run.id)
  const { database, housekeeping } = gate.app
  // As if it had ended the day before yesterday: its id tells when it was created.
  const old = run.id.replace(/_.{10}/, '_0000000000')
  for (const [table, key] of [
    ['run_event', 'run_id'],
    ['run_body', 'run_id'],
    ['run_outcome', 'run_id'],
    ['run', 'id'],
  ]) {
    await database.query(`update ${table} set ${key} = $2 where ${key} = $1`, [run.id, old])
  }
  await database.query(`update run_body set facts = replace(facts, $1, $2)`, [run.id, old])
  await database.query(`update run_event set at = at - interval '2 days'`)
  while (await housekeeping.rounds.purge.tick());

  const headers = { authorization: `Bearer ${gate.liveKey}` }
  const events = await fetch(`${gate.url}/v1/runs/${old}/events`, { headers })
  expect(events.status).toBe(410)
  expect((await events.json()).error).toMatchObject({ code: 'EVENTS_PURGED', retryable: false })
  const shown = await (await fetch(`${gate.url}/v1/runs/${old}`, { headers })).json()
  expect(shown).toMatchObject({ state: 'completed', output: ended.output, cost: ended.cost })
  const metrics = await (await fetch(`${gate.url}/metrics`)).text()
  expect(metrics).toContain('agentgate_purged_runs_total 1')
})
