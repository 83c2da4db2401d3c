import { expect, test } from 'vitest'
import { Gateways } from '../harness/gateways.ts'
import { FINAL } from './reference.ts'

const CAP = 4
const CAP_OF_TENANT = 2
const TENANTS = 4
const RUNS = 90

const SETTINGS = {
  AGENTGATE_SLOTS: '8',
  AGENTGATE_LEASE_SECONDS: '6',
  AGENTGATE_MAX_CONCURRENT_RUNS: String(CAP),
  AGENTGATE_MAX_CONCURRENT_RUNS_PER_AGENT: String(CAP),
  AGENTGATE_MAX_CONCURRENT_RUNS_PER_TENANT: String(CAP_OF_TENANT),
}

/** Who has runs at work, at one instant. */
interface Sample {
  ofTenants: number[]
  workers: string[]
}

async function sampleUntil(isOver: () => boolean, { database }: Gateways): Promise<Sample[]> {
  const samples: Sample[] = []
  while (!isOver()) {
    const rows = await database.query<{ working: number; workers: string[] }>(
      `select count(*)::int as working, array_agg(worker_id) as workers from run where state = 'running' group by tenant_id`,
    )
    samples.push({
      ofTenants: rows.map(({ working }) => working),
      workers: rows.flatMap(({ workers }) => workers),
    })
  }
  return samples
}

async function endOf(id: string, gateways: Gateways): Promise<string> {
  for (;;) {
    const [gateway] = gateways.all
    if (gateway === undefined) throw new Error('no gateway is at work')
    const { body } = await gateways.ask(gateway, `/v1/runs/${id}`, { headers: { prefer: 'wait=10' } })
    if (FINAL.includes(body.state)) return body.state
  }
}

test('caps are never exceeded at any moment by three processes that claim and create at once, one of which is killed', async () => {
  await using gateways = await Gateways.open(3, SETTINGS)
  let isOver = false
  const sampling = sampleUntil(() => isOver, gateways)
  const create = async (n: number): Promise<string> => {
    const gateway = gateways.all[n % gateways.all.length]
    if (gateway === undefined) throw new Error('no gateway is at work')
    const body = {
      agent: 'scripted',
      input: { steps: [{ text: 'done', delayMs: 20 }] },
      tenantContext: { tenantId: `t${n % TENANTS}` },
    }
    const created = await gateways.ask(gateway, '/v1/runs', { body, headers: { 'idempotency-key': `${n}` } })
    expect(created.status).toBe(201)
    return created.body.id
  }
  const ids = await Promise.all(Array.from({ length: RUNS }, (_, n) => create(n)))
  const ends = ids.map((id) => endOf(id, gateways))
  await Promise.race(ends)
  const victim = gateways.all.at(-1)
  await victim?.end('kill')
  await victim?.start()
  expect(new Set(await Promise.all(ends))).toEqual(new Set(['completed']))
  isOver = true
  const samples = await sampling
  const highest = (of: (sample: Sample) => number): number => Math.max(...samples.map(of))
  expect(highest(({ ofTenants }) => ofTenants.reduce((sum, n) => sum + n, 0))).toBe(CAP)
  expect(highest(({ ofTenants }) => Math.max(0, ...ofTenants))).toBe(CAP_OF_TENANT)
  // The killed one has come back as another worker.
  expect(new Set(samples.flatMap(({ workers }) => workers)).size).toBeGreaterThanOrEqual(3)
}, 120_000)
