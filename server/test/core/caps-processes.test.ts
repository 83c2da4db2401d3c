import { expect, test } from 'vitest'
import { Gateways } from '../harness/gateways.ts'
import { FINAL } from './reference.ts'

const CAP = 4
const CAP_OF_TENANT = 2
const TENANTS = 4
/** At once, again and again. */
const RUNS = 45

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

async function sampleUntil(isOver: () => boolean, samples: Sample[], { database }: Gateways): Promise<void> {
  while (!isOver()) {
    const rows = await database.query<{ working: number; workers: string[] }>(
      `select count(*)::int as working, array_remove(array_agg(worker_id), null) as workers
        from run where state = 'running' group by tenant_id`,
    )
    samples.push({
      ofTenants: rows.map(({ working }) => working),
      workers: rows.flatMap(({ workers }) => workers),
    })
  }
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
  const samples: Sample[] = []
  const sampling = sampleUntil(() => isOver, samples, gateways)
  const workers = (): Set<string> => new Set(samples.flatMap((sample) => sample.workers))
  let created = 0
  const create = async (): Promise<string> => {
    const n = created++
    const gateway = gateways.all[n % gateways.all.length]
    if (gateway === undefined) throw new Error('no gateway is at work')
    const body = {
      agent: 'scripted',
      input: { steps: [{ text: 'done', delayMs: 20 }] },
      tenantContext: { tenantId: `t${n % TENANTS}` },
    }
    const answer = await gateways.ask(gateway, '/v1/runs', { body, headers: { 'idempotency-key': `${n}` } })
    expect(answer.status).toBe(201)
    return answer.body.id
  }
  const load = async (): Promise<void> => {
    const ids = await Promise.all(Array.from({ length: RUNS }, create))
    const ends = await Promise.all(ids.map((id) => endOf(id, gateways)))
    expect(new Set(ends)).toEqual(new Set(['completed']))
  }
  const victim = gateways.all.at(-1)
  let isEnough = false
  let loading: Promise<unknown> = Promise.resolve()
  try {
    // The fastest may take all there is, so there is more until each has had some.
    do await load()
    while (workers().size < 3)
    const [worker] = await gateways.database.query<{ id: string }>('select id from worker where pid = $1', [
      victim?.pid,
    ])
    loading = (async () => {
      while (!isEnough) await load()
    })()
    // It dies with runs at work, or just after.
    await expect.poll(() => samples.at(-1)?.workers, { interval: 1, timeout: 60_000 }).toContain(worker?.id)
    await victim?.end('kill')
    isEnough = true
    await victim?.start()
    await loading
    // The killed one has come back as another worker.
    while (workers().size < 4) await load()
  } finally {
    isEnough = true
    isOver = true
    await Promise.allSettled([loading, sampling])
  }
  const highest = (of: (sample: Sample) => number): number => Math.max(...samples.map(of))
  expect(highest(({ ofTenants }) => ofTenants.reduce((sum, n) => sum + n, 0))).toBe(CAP)
  expect(highest(({ ofTenants }) => Math.max(0, ...ofTenants))).toBe(CAP_OF_TENANT)
}, 120_000)
