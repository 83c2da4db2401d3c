import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { asked } from '../harness/door.ts'
import { type Gate, startGate } from '../harness/gate.ts'

let gate: Gate
beforeAll(async () => {
  gate = await startGate()
})
afterAll(() => gate[Symbol.asyncDispose]())

interface Sample {
  name: string
  labels: Record<string, string>
  value: number
}

interface Family {
  type: string
  help: string
  samples: Sample[]
}

/** The text format 0.0.4, as strictly as a scraper reads it: help and type first, then the samples of that name. */
function parseMetrics(text: string): Map<string, Family> {
  const families = new Map<string, Family>()
  let current = ''
  for (const line of text.trimEnd().split('\n')) {
    const [, kind, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? []
    if (kind === 'HELP') {
      expect(families.has(name), `${name} is there once`).toBe(false)
      families.set(name, { type: '', help: rest, samples: [] })
      current = name
    } else if (kind === 'TYPE') {
      expect(name).toBe(current)
      Object.assign(families.get(name) ?? {}, { type: rest })
    } else {
      const sample = parseSample(line)
      const family = families.get(current)
      const suffixes = family?.type === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']
      expect(suffixes.map((suffix) => current + suffix)).toContain(sample.name)
      family?.samples.push(sample)
    }
  }
  return families
}

function parseSample(line: string): Sample {
  const match = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line)
  expect(match, line).not.toBeNull()
  const [, name = '', labels = '', value = ''] = match ?? []
  const pairs = [...labels.matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"(?:,|$)/g)]
  expect(pairs.map(([all]) => all).join('')).toBe(labels)
  return {
    name,
    labels: Object.fromEntries(pairs.map(([, key = '', text = '']) => [key, text])),
    value: Number(value),
  }
}

const metrics = async (): Promise<Map<string, Family>> =>
  parseMetrics(await (await fetch(`${gate.url}/metrics`)).text())

const valueOf = async (name: string, labels: Record<string, string> = {}): Promise<number> => {
  const samples = (await metrics()).get(name)?.samples ?? []
  const found = samples.find((sample) =>
    Object.entries(labels).every(([key, text]) => sample.labels[key] === text),
  )
  return found?.value ?? 0
}

/** What `promtool check metrics` asks of names and help texts. */
test('every figure has a help text, a unit where it has one, and a name that says its type', async () => {
  const { client } = gate
  const run = await client.runs.create({ agent: 'scripted', input: 'x' })
  await client.runs.wait(run.id)
  await gate.app.housekeeping.rounds.figures.tick()
  for (const [name, { type, help, samples }] of await metrics()) {
    expect(help).toMatch(/^[A-Z].*\.$/)
    expect(['counter', 'gauge', 'histogram']).toContain(type)
    expect(name.endsWith('_total'), name).toBe(type === 'counter')
    expect(name).not.toMatch(
      /milliseconds|_ms\b|minutes|hours|kilo|mega|_(counter|gauge|histogram|count|sum|bucket)$/,
    )
    for (const { value, labels } of samples) {
      expect(Number.isNaN(value), `${name} is a number`).toBe(false)
      if (type !== 'histogram') expect(Object.keys(labels)).not.toContain('le')
      expect(Object.keys(labels)).not.toContain('quantile')
    }
  }
})

test('labels never say who: no id, tenant or text of a caller is among them', async () => {
  const run = await gate.client.runs.create({
    agent: 'scripted',
    input: 'x',
    tenantContext: { tenantId: 'secret-tenant' },
    metadata: { name: 'secret-name' },
  })
  await gate.client.runs.wait(run.id)
  const text = await (await fetch(`${gate.url}/metrics`)).text()
  expect(text).not.toMatch(/secret-|(?:run|org|key|wrk)_[0-9a-z]{26}/)
})

test('a run that ended is counted once, by state and reason, with what it cost', async () => {
  const labels = { mode: 'live', state: 'completed', reason: 'completed' }
  const before = await valueOf('agentgate_runs_ended_total', labels)
  const charged = await valueOf('agentgate_credits_charged_total')
  const run = await gate.client.runs.create({ agent: 'scripted', input: 'x' })
  const ended = await gate.client.runs.wait(run.id)
  expect(await valueOf('agentgate_runs_ended_total', labels)).toBe(before + 1)
  expect(await valueOf('agentgate_credits_charged_total')).toBe(charged + ended.cost.credits)
})

test('a run that the credit does not cover is counted as a refused reservation', async () => {
  const before = await valueOf('agentgate_writes_refused_total', { why: 'no_credit' })
  const constraints = { maxCredits: 1_000_000 }
  await expect(gate.client.runs.create({ agent: 'scripted', input: 'x', constraints })).rejects.toMatchObject(
    {
      code: 'INSUFFICIENT_CREDITS',
    },
  )
  expect(await valueOf('agentgate_writes_refused_total', { why: 'no_credit' })).toBe(before + 1)
})

test('runs that wait show in the queue and its age', async () => {
  const steps = [{ text: 'I wait.', delayMs: 60_000 }]
  const created = await Promise.all(
    Array.from({ length: 12 }, () => gate.testClient.runs.create({ agent: 'scripted', input: { steps } })),
  )
  await gate.app.housekeeping.rounds.figures.tick()
  const test = { mode: 'test' }
  expect(await valueOf('agentgate_runs', { ...test, state: 'running' })).toBe(10)
  expect(await valueOf('agentgate_runs', { ...test, state: 'queued' })).toBe(2)
  expect(await valueOf('agentgate_queue_oldest_seconds', test)).toBeGreaterThan(0)
  expect(await valueOf('agentgate_queue_oldest_seconds', { mode: 'live' })).toBe(0)
  expect(await valueOf('agentgate_workers')).toBe(1)
  for (const { id } of created) await gate.testClient.runs.cancel(id)
})

test('every figure on the dashboard exists', async () => {
  const dashboard = await readFile(new URL('../../../docs/grafana/agentgate.json', import.meta.url), 'utf8')
  const { panels } = JSON.parse(dashboard)
  const expressions: string[] = panels.flatMap(({ targets = [] }: { targets?: { expr: string }[] }) =>
    targets.map(({ expr }) => expr),
  )
  const named = new Set(expressions.flatMap((expr) => expr.match(/\b(?:agentgate|process)_[a-z_]+/g) ?? []))
  const families = await metrics()
  const known = [...families].flatMap(([name, { type }]) =>
    type === 'histogram' ? ['_bucket', '_sum', '_count'].map((suffix) => name + suffix) : [name],
  )
  expect([...named].filter((name) => !known.includes(name))).toEqual([])
  // And what is measured is shown.
  const shown = [...families.keys()].filter((name) => ![...named].some((each) => each.startsWith(name)))
  expect(shown).toEqual([])
})

test('a nearly full disk refuses new work with a hint, finishes what runs, and says how much is free', async () => {
  let freeMib = 10_000
  const statfs = async () => ({ bavail: freeMib * 256, bsize: 4096 })
  await using small = await startGate({ effects: { statfs }, env: { AGENTGATE_MIN_DISK_MB: '512' } })
  const steps = [{ text: 'I wait.', delayMs: 300 }]
  const running = await small.client.runs.create({ agent: 'scripted', input: { steps } })
  freeMib = 511
  await small.app.housekeeping.rounds.disk.tick()
  const refused = await asked(`${small.url}/v1/runs`, {
    method: 'POST',
    key: small.liveKey,
    body: { agent: 'scripted', input: 'x' },
  })
  expect(refused.status).toBe(503)
  expect(refused.error).toMatchObject({
    code: 'SERVICE_UNAVAILABLE',
    hint: expect.stringContaining('512 MiB'),
    retryable: true,
  })
  expect(await (await fetch(`${small.url}/metrics`)).text()).toContain(
    `agentgate_disk_free_bytes ${511 * 2 ** 20}`,
  )
  expect(await small.client.runs.wait(running.id)).toMatchObject({ state: 'completed' })
  freeMib = 513
  await small.app.housekeeping.rounds.disk.tick()
  const again = await small.client.runs.create({ agent: 'scripted', input: 'x' })
  expect(await small.client.runs.wait(again.id)).toMatchObject({ state: 'completed' })
})
