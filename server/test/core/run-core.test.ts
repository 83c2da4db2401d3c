import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RunFacts, RunId } from '../../src/domain/facts.ts'
import { DEFAULT_CONSTRAINTS } from '../../src/domain/facts.ts'
import type { Scope } from '../../src/domain/fairness.ts'
import { NO_TOKENS } from '../../src/domain/money.ts'
import type { HeldRun, Performer } from '../../src/domain/performer.ts'
import { NO_CAP } from '../../src/engine/decisions.ts'
import { Engine, type EngineOptions } from '../../src/engine/engine.ts'
import type { Committed } from '../../src/engine/mailbox.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { newId } from '../../src/lib/id.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { findQueuePosition } from '../../src/storage/queue.ts'
import { findHeldRun } from '../../src/storage/runs.ts'
import { provideTestDatabase } from '../harness/postgres.ts'

const ORGANIZATION = newId('org', Date.now())

let database: Database
beforeAll(async () => {
  database = await openDatabase(await provideTestDatabase(), { maxReaders: 4, statementTimeoutMs: 0 })
  const at = new Date()
  await database.query('insert into organization (id, name, created_at) values ($1, $2, $3)', [
    ORGANIZATION,
    'test',
    at,
  ])
  await database.query(
    'insert into account (organization_id, included_micro, cycle_start) values ($1, $2, $3)',
    [ORGANIZATION, 10_000 * 1_000_000, at],
  )
})
afterAll(() => database.close())

const threeSteps: Performer = {
  resumePoint: async () => 0,
  async perform(held: HeldRun) {
    for (let step = 1; step <= 3; step++) {
      await held.send({ type: 'begin_step', step, model: 'none', worstCase: NO_TOKENS })
      await held.send(
        {
          type: 'end_step',
          step,
          model: 'none',
          usage: NO_TOKENS,
          usageReported: true,
          text: `step ${step}`,
          calls: [],
        },
        [
          {
            kind: 'step',
            step,
            iteration: 0,
            record: null,
            text: `step ${step}`,
            calls: [],
            usage: NO_TOKENS,
          },
        ],
      )
    }
    await held.send({ type: 'complete', reason: 'completed', output: 'done', delivery: null })
  },
}

async function openEngine(
  overrides: Partial<EngineOptions> = {},
): Promise<{ engine: Engine; finished: (id: RunId) => Promise<Committed> }> {
  const waiting = new Map<RunId, (committed: Committed) => void>()
  const ended = new Map<RunId, Committed>()
  const engine = await Engine.open({
    database,
    clock: systemClock,
    epoch: 1,
    worker: { id: newId('wrk', Date.now()), bootId: 'boot', pid: process.pid, pidStarted: '0' },
    performer: threeSteps,
    slots: 8,
    capOf: () => 10,
    maxQueued: 100,
    leaseMs: 15_000,
    renewMs: 5_000,
    fenceMs: 10_000,
    graceUntil: 0,
    log: { error: () => undefined, warn: () => undefined },
    onCommitted: (committed) => {
      if (committed.run.completedAt === null) return
      ended.set(committed.run.facts.id, committed)
      waiting.get(committed.run.facts.id)?.(committed)
    },
    onDraft: () => undefined,
    onBatch: () => undefined,
    pause: async () => undefined,
    ...overrides,
  })
  const finished = (id: RunId): Promise<Committed> =>
    new Promise((resolve) => {
      const already = ended.get(id)
      if (already) resolve(already)
      else waiting.set(id, resolve)
    })
  return { engine, finished }
}

function factsOf(overrides: Partial<RunFacts> = {}): RunFacts {
  const createdAt = Date.now()
  return {
    id: newId('run', createdAt),
    organizationId: ORGANIZATION,
    mode: 'live',
    tenantId: '',
    agent: { id: 'agt_scripted', slug: 'scripted', version: '1', kind: 'scripted' },
    models: [],
    input: 'hello',
    order: null,
    constraints: DEFAULT_CONSTRAINTS,
    reserveMicro: 50_000_000,
    prices: { models: {}, unpriced: { input: 0, output: 0, cached: 0 }, perMinute: 60_000 },
    webhookUrl: null,
    script: null,
    metadata: {},
    tenantContext: {},
    correlationId: null,
    projectId: null,
    purpose: null,
    requestId: 'req',
    traceparent: null,
    createdBy: { type: 'key', id: 'key_test' },
    retryOf: null,
    createdAt,
    ...overrides,
  }
}

test('a run is born, takes its steps and is charged once', async () => {
  const { engine, finished } = await openEngine()
  await using _ = engine
  const facts = factsOf()
  const created = await engine.createRun(facts, { idempotency: null })
  expect(created).toMatchObject({ replayed: false, run: { state: 'queued', lastSeq: 1 } })
  const { run } = await finished(facts.id)
  expect(run).toMatchObject({ state: 'completed', usage: { steps: 3 }, attempt: 1 })
  const rows = await database.query<{ first_seq: number; last_seq: number }>(
    'select first_seq, last_seq from run_event where run_id = $1 order by first_seq',
    [facts.id],
  )
  expect(rows.reduce((seq, row) => (row.first_seq === seq + 1 ? row.last_seq : -1), 0)).toBe(run.lastSeq)
  const [account] = await database.query(
    'select reserved_micro, spent_micro from account where organization_id = $1',
    [ORGANIZATION],
  )
  expect(account).toEqual({ reserved_micro: 0, spent_micro: 1_000_000 })
})

test('the same idempotency key makes one run', async () => {
  const { engine } = await openEngine()
  await using _ = engine
  const idempotency = { route: 'POST /v1/runs', key: 'k1', bodyHash: 'a', tenantId: '' }
  const [first, second] = await Promise.all([
    engine.createRun(factsOf(), { idempotency }),
    engine.createRun(factsOf(), { idempotency }),
  ])
  expect(second?.run.facts.id).toBe(first?.run.facts.id)
  await expect(
    engine.createRun(factsOf(), { idempotency: { ...idempotency, bodyHash: 'b' } }),
  ).rejects.toMatchObject({
    code: 'IDEMPOTENCY_KEY_REUSED',
  })
})

test('a run that the credit does not cover is refused whole', async () => {
  const { engine } = await openEngine()
  await using _ = engine
  const facts = factsOf({ reserveMicro: 20_000 * 1_000_000 })
  await expect(engine.createRun(facts, { idempotency: null })).rejects.toMatchObject({
    code: 'INSUFFICIENT_CREDITS',
    details: { required: 20_000, available: expect.any(Number) },
  })
  expect(await database.query('select id from run where id = $1', [facts.id])).toEqual([])
})

test('no more runs work at once than the cap allows, and all of them finish', async () => {
  let working = 0
  let most = 0
  const gates: (() => void)[] = []
  const performer: Performer = {
    resumePoint: async () => 0,
    async perform(held) {
      most = Math.max(most, ++working)
      await new Promise<void>((resolve) => gates.push(resolve))
      working--
      await threeSteps.perform(held)
    },
  }
  const { engine, finished } = await openEngine({ performer, capOf: () => 2 })
  await using _ = engine
  engine.start()
  const all = Array.from({ length: 6 }, () =>
    factsOf({ agent: { id: 'a', slug: 'capped', version: '1', kind: 'scripted' } }),
  )
  await Promise.all(all.map((facts) => engine.createRun(facts, { idempotency: null })))
  const release = setInterval(() => gates.shift()?.(), 5)
  const ends = await Promise.all(all.map((facts) => finished(facts.id)))
  clearInterval(release)
  expect(ends.every(({ run }) => run.state === 'completed')).toBe(true)
  expect(most).toBe(2)
  const lanes = await database.query("select queued, running from lane where agent = 'capped'")
  expect(lanes).toEqual([{ queued: 0, running: 0 }])
})

test('a tenant at its cap waits, and says its place, while another tenant works', async () => {
  const gates: (() => void)[] = []
  const performer: Performer = {
    resumePoint: async () => 0,
    async perform(held) {
      await new Promise<void>((resolve) => gates.push(resolve))
      await threeSteps.perform(held)
    },
  }
  const capOf = ({ kind }: Scope): number => (kind === 'tenant' ? 1 : NO_CAP)
  const { engine, finished } = await openEngine({ performer, capOf })
  await using _ = engine
  engine.start()
  const create = async (tenantId: string): Promise<RunId> =>
    (await engine.createRun(factsOf({ tenantId }), { idempotency: null })).run.facts.id
  const [first, second, third, other] = [
    await create('a'),
    await create('a'),
    await create('a'),
    await create('b'),
  ]
  await expect.poll(() => gates.length).toBe(2)
  const standing = async (id: RunId) => (await findHeldRun(database, id))?.run
  expect((await standing(other))?.state).toBe('running')
  const waiting = await standing(third)
  expect(waiting?.state).toBe('queued')
  expect(waiting && (await findQueuePosition(database, waiting))).toBe(2)
  const release = setInterval(() => gates.shift()?.(), 5)
  await Promise.all([first, second, third, other].map(finished))
  clearInterval(release)
})

test('a drained worker hands its run back and the next one goes on with it', async () => {
  const patient: Performer = {
    resumePoint: async () => 0,
    perform: (held) =>
      new Promise((_, reject) => held.signal.addEventListener('abort', () => reject(new Error('stopped')))),
  }
  const first = await openEngine({ performer: patient })
  const facts = factsOf()
  await first.engine.createRun(facts, { idempotency: null })
  await first.engine[Symbol.asyncDispose]()
  const second = await openEngine()
  await using _ = second.engine
  second.engine.start()
  const { run } = await second.finished(facts.id)
  expect(run).toMatchObject({ state: 'completed', attempt: 2 })
})

test('a canceled run says that its work stopped', async () => {
  let stopped = false
  const patient: Performer = {
    resumePoint: async () => 0,
    perform: (held) =>
      new Promise((_, reject) =>
        held.signal.addEventListener('abort', () => {
          stopped = true
          reject(new Error('stopped'))
        }),
      ),
  }
  const { engine, finished } = await openEngine({ performer: patient })
  await using _ = engine
  const facts = factsOf()
  await engine.createRun(facts, { idempotency: null })
  await engine.cancelRun(facts.id, 'key_test')
  const { run } = await finished(facts.id)
  expect(stopped).toBe(true)
  expect(run).toMatchObject({ state: 'canceled', outcome: { stopped: { how: 'agreed' } } })
  expect(await engine.cancelRun(facts.id, 'key_test')).toMatchObject({ state: 'canceled' })
})
