import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { RunFacts } from '../../src/domain/facts.ts'
import { organizationScope } from '../../src/domain/fairness.ts'
import type { Performer } from '../../src/domain/performer.ts'
import { listDue, listOrphans, readQueue } from '../../src/storage/queue.ts'
import { report } from '../harness/report.ts'
import { type EngineRoom, factsOf, openEngineRoom, patient, threeSteps } from './engine-room.ts'

/** Runs behind a cap; `AGENTGATE_TEST_QUEUED=100000` is the long version. */
const QUEUED = Number(process.env['AGENTGATE_TEST_QUEUED'] ?? 20_000)
/** So many of them each in a lane of its own. */
const LANES = 300

let room: EngineRoom
beforeEach(async () => {
  room = await openEngineRoom()
})
afterEach(() => room[Symbol.asyncDispose]())

/** Queued runs of one lane, written at once: what thousands of creates would leave behind. */
async function queueMany(facts: RunFacts, count: number): Promise<void> {
  const { organizationId, mode, tenantId, agent } = facts
  await room.database.query(
    `with n as (select lpad(n::text, 26, '0') as n from generate_series(1, $5::int) as n),
     r as (
       insert into run (id, organization_id, mode, tenant_id, agent, state, status_reason, last_seq, commit_id,
         created_at, fold)
       select 'run_' || lpad(left($3, 8), 8, '0') || right(n, 18), $1, $2, $3, $4, 'queued', 'waiting_for_capacity', 1, 0, $6, '{}' from n
       returning id
     ),
     b as (insert into run_body (run_id, facts)
       select id, (($7::jsonb) || jsonb_build_object('id', id))::text from r),
     e as (insert into run_event (run_id, first_seq, last_seq, commit_id, epoch, at, events)
       select id, 1, 1, 0, 1, $6, json_build_object('id', 'evt_1', 'type', 'run.created', 'createdAt', $8::text, 'mode', $2,
         'runId', id, 'seq', 1, 'data', json_build_object('heldMicro', 0))::text from r)
     insert into lane (organization_id, mode, tenant_id, agent, queued) values ($1, $2, $3, $4, $5)
     on conflict (organization_id, mode, tenant_id, agent) do update set queued = lane.queued + excluded.queued`,
    [
      organizationId,
      mode,
      tenantId,
      agent.slug,
      count,
      new Date(facts.createdAt),
      JSON.stringify(facts),
      new Date(facts.createdAt).toISOString(),
    ],
  )
}

const queued = (organizationId: string, tenantId: string): RunFacts =>
  factsOf(organizationId, { tenantId, tenantContext: { tenantId }, reserveMicro: 0 })

/** Notes in which order runs are taken to work. */
function noting(order: RunFacts[]): Performer {
  return {
    ...threeSteps,
    perform(held) {
      order.push(held.run.facts)
      return threeSteps.perform(held)
    },
  }
}

describe('a queue', () => {
  test('of one tenant with 10,000 runs lets twenty others start within the next 40 claims', async () => {
    const organization = await room.organization()
    await using api = await room.engine({ slots: 0 })
    await api.create(queued(organization, 'giant'))
    await queueMany(queued(organization, 'giant'), 10_000)
    const order: RunFacts[] = []
    await using worker = await room.engine({ performer: noting(order), slots: 10 })
    await worker.engine.rounds.claims.tick()
    const before = order.length
    await Promise.all(Array.from({ length: 20 }, (_, i) => api.create(queued(organization, `small_${i}`))))
    while (order.length < before + 40) {
      await worker.engine.rounds.claims.tick()
      await Promise.all(order.map(({ id }) => worker.finished(id)))
    }
    const next = order.slice(before, before + 40).filter(({ tenantId }) => tenantId !== 'giant')
    expect(new Set(next.map(({ tenantId }) => tenantId)).size).toBe(20)
    expect(await room.findings()).toEqual([])
  })

  test('behind a cap does not slow the claims of another lane', async () => {
    const [full, other] = [await room.organization(), await room.organization()]
    const order: RunFacts[] = []
    const capOf = ({ key, kind }: { key: string; kind: string }): number =>
      kind === 'organization' && key.startsWith(full) ? 1 : 1_000
    await using api = await room.engine({ slots: 0 })
    await using holder = await room.engine({ performer: patient, slots: 1, capOf })
    await using worker = await room.engine({ performer: noting(order), capOf })
    await holder.create(queued(full, 'holder'))
    const timeClaims = async (): Promise<number> => {
      const times: number[] = []
      for (let i = 0; i < 30; i++) {
        const facts = queued(other, `t${i}`)
        await api.create(facts)
        const startedAt = performance.now()
        await worker.engine.rounds.claims.tick()
        await worker.finished(facts.id)
        times.push(performance.now() - startedAt)
      }
      return times.sort((a, b) => a - b)[15] ?? 0
    }
    const alone = await timeClaims()
    await queueMany(queued(full, 'blocked'), QUEUED - LANES)
    for (let lane = 0; lane < LANES; lane++) await queueMany(queued(full, `lane${1_000 + lane}`), 1)
    const behind = await timeClaims()
    report(
      `a claim, from its round to the end of its run: ${alone.toFixed(1)} ms alone, ${behind.toFixed(1)} ms beside ${QUEUED} runs behind a cap`,
    )
    expect(order.every(({ tenantId }) => /^t\d+$/.test(tenantId))).toBe(true)
    // Noise of a shared machine is well under this; a scan of the queued runs or lanes is well over it.
    expect(behind).toBeLessThan(alone * 3 + 10)
  }, 120_000)

  test('behind a cap is not read by claims, also before the database has counted it', async () => {
    const [full, other] = [await room.organization(), await room.organization()]
    await using holder = await room.engine({ performer: patient, capOf: () => 1 })
    for (const organization of [full, other]) await holder.create(queued(organization, 'holder'))
    await queueMany(queued(full, 'blocked'), 5_000)
    const read = await room.database.inTransaction(async (tx) => {
      const { lanes } = await readQueue(tx, () => 1)
      expect(lanes).toEqual([])
      expect(await listOrphans(tx, new Date(), 64)).toEqual([])
      expect(await listDue(tx, new Date(), 64)).toEqual([])
      return tx.query<{ rows: number }>(
        "select (seq_tup_read + idx_tup_fetch)::int as rows from pg_stat_xact_user_tables where relname = 'run'",
      )
    })
    expect(read[0]?.rows).toBeLessThan(100)
  })

  test('in thousands of lanes behind a full organisation, agent or tenant is stepped over by claims', async () => {
    const [full, busy, open] = [
      await room.organization(),
      await room.organization(),
      await room.organization(),
    ]
    await room.database.query(
      `insert into lane (organization_id, mode, tenant_id, agent, queued, tag)
       select organization_id, 'live', 't' || n, agent, 1, 0
       from (values ($1, 'coder'), ($2, 'coder')) as place (organization_id, agent), generate_series(1, 5000) as n
       union all select $2, 'live', '', 'reviewer', 1, 7
       union all select $3, 'live', 't' || n, 'coder', 1, n from generate_series(1, 40) as n`,
      [full, busy, open],
    )
    const full40 = Array.from({ length: 39 }, (_, i) => `${open}/live/tenant/t${i + 1}`)
    await room.database.query(
      'insert into capacity (scope, running) select scope, 2 from unnest($1::text[]) as scope',
      [[`${full}/live`, `${busy}/live/agent/coder`, ...full40]],
    )
    const capOf = ({ kind, key }: { kind: string; key: string }): number =>
      kind === 'tenant' || key === `${full}/live` || key === `${busy}/live/agent/coder` ? 2 : 1_000
    const { found, rows } = await room.database.inTransaction(async (tx) => {
      const queue = await readQueue(tx, capOf)
      const [read] = await tx.query<{ rows: number }>(
        `select sum(seq_tup_read + idx_tup_fetch)::int as rows from pg_stat_xact_user_tables
         where relname in ('lane', 'capacity')`,
      )
      return { found: queue, rows: read?.rows }
    })
    expect(
      found.lanes.map(({ organizationId, tenantId, agent }) => [organizationId, tenantId, agent]),
    ).toEqual([
      [busy, '', 'reviewer'],
      [open, 't40', 'coder'],
    ])
    expect([...found.waiting].toSorted()).toEqual([full, busy, open].map((id) => `${id}/live`).toSorted())
    expect(found.room.get(`${open}/live/tenant/t40`)).toBe(2)
    expect(rows).toBeLessThan(200)
  })

  test('is not overtaken by runs that are created while places become free', async () => {
    const organization = await room.organization()
    const order: RunFacts[] = []
    await using worker = await room.engine({ performer: noting(order), capOf: () => 1 })
    worker.engine.start()
    const early = Array.from({ length: 30 }, () => queued(organization, 'early'))
    await Promise.all(early.map((facts) => worker.create(facts)))
    const late = Array.from({ length: 60 }, () => queued(organization, 'early'))
    for (const facts of late) await worker.create(facts)
    await Promise.all([...early, ...late].map(({ id }) => worker.finished(id)))
    const started = await room.database.query<{ run_id: string }>(
      `select run_id from run_event where events like '%"run.started"%' order by xid, at`,
    )
    const places = started.map(({ run_id: id }) => early.some((facts) => facts.id === id))
    expect(places.lastIndexOf(true)).toBeLessThan(45)
  })

  test('that is full refuses more, though slots are free', async () => {
    const organization = await room.organization()
    await using worker = await room.engine({ performer: patient, capOf: () => 1, maxQueued: 3 })
    worker.engine.start()
    for (let i = 0; i < 4; i++) await worker.create(queued(organization, 'a'))
    await expect(worker.create(queued(organization, 'a'))).rejects.toMatchObject({
      code: 'QUEUE_FULL',
      details: { queued: 3, limit: 3 },
    })
  })
})

describe('caps', () => {
  test('are never exceeded at any moment by three engines that claim and create at once', async () => {
    const organizations = [await room.organization(), await room.organization()]
    const caps = new Map(
      organizations.map((id, i) => [organizationScope({ organizationId: id, mode: 'live' }), 3 + i]),
    )
    const capOf = ({ key, kind }: { key: string; kind: string }): number =>
      kind === 'organization' ? (caps.get(key) ?? 0) : kind === 'tenant' ? 2 : 1_000
    const engines = await Promise.all([1, 2, 3].map(() => room.engine({ capOf, slots: 8 })))
    for (const { engine } of engines) engine.start()
    let isOver = false
    const samples: { key: string; working: number }[] = []
    const sampling = (async () => {
      while (!isOver) {
        const rows = await room.database.query<{ key: string; working: number; of_tenant: number }>(
          `select organization_id || '/' || mode as key, count(*)::int as working from run where state = 'running'
           group by 1 union all
           select 'tenant', count(*)::int from run where state = 'running' group by organization_id, tenant_id`,
        )
        samples.push(...rows)
      }
    })()
    const all = organizations.flatMap((id) => Array.from({ length: 60 }, (_, i) => queued(id, `t${i % 4}`)))
    await Promise.all(all.map(async (facts, i) => engines[i % 3]?.create(facts)))
    const ended = all.map(({ id }) => Promise.race(engines.map((each) => each.finished(id))))
    await Promise.all(ended)
    isOver = true
    await sampling
    for (const { key, working } of samples) expect(working).toBeLessThanOrEqual(caps.get(key) ?? 2)
    expect(samples.length).toBeGreaterThan(20)
    expect(await room.findings()).toEqual([])
    for (const engine of engines) await engine[Symbol.asyncDispose]()
  })
})
