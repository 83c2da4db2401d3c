import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RunFacts } from '../../src/domain/facts.ts'
import type { Scope } from '../../src/domain/fairness.ts'
import type { Performer } from '../../src/domain/performer.ts'
import { NO_CAP } from '../../src/engine/decisions.ts'
import { findQueuePosition } from '../../src/storage/queue.ts'
import {
  aborted,
  type EngineRoom,
  factsOf,
  gatedPerformer,
  openEngineRoom,
  patient,
  storedRun,
  takeStep,
  threeSteps,
} from './engine-room.ts'

let room: EngineRoom
beforeAll(async () => {
  room = await openEngineRoom()
})
afterAll(() => room[Symbol.asyncDispose]())

test('a run is born, takes its steps and is charged once', async () => {
  const organization = await room.organization()
  await using worker = await room.engine()
  const facts = factsOf(organization)
  const created = await worker.engine.createRun(facts, { idempotency: null })
  expect(created).toMatchObject({ replayed: false, run: { state: 'queued', lastSeq: 1 } })
  const run = await worker.finished(facts.id)
  expect(run).toMatchObject({ state: 'completed', usage: { steps: 3 }, attempt: 1 })
  const rows = await room.database.query<{ first_seq: number; last_seq: number }>(
    'select first_seq, last_seq from run_event where run_id = $1 order by first_seq',
    [facts.id],
  )
  expect(rows.reduce((seq, row) => (row.first_seq === seq + 1 ? row.last_seq : -1), 0)).toBe(run.lastSeq)
  const [account] = await room.database.query(
    'select reserved_micro, spent_micro from account where organization_id = $1',
    [organization],
  )
  expect(account).toEqual({ reserved_micro: 0, spent_micro: 1_000_000 })
})

test('the same idempotency key makes one run', async () => {
  const organization = await room.organization()
  await using worker = await room.engine()
  const idempotency = { route: 'POST /v1/runs', key: 'k1', bodyHash: 'a', tenantId: '' }
  const create = (bodyHash: string) =>
    worker.create(factsOf(organization), { idempotency: { ...idempotency, bodyHash } })
  const [first, second] = await Promise.all([create('a'), create('a')])
  expect(second.facts.id).toBe(first.facts.id)
  await expect(create('b')).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_REUSED' })
})

test('a run that the credit does not cover is refused whole', async () => {
  const facts = factsOf(await room.organization(10_000), { reserveMicro: 20_000 * 1_000_000 })
  await using worker = await room.engine()
  await expect(worker.create(facts)).rejects.toMatchObject({
    code: 'INSUFFICIENT_CREDITS',
    details: { required: 20_000, available: 10_000 },
  })
  expect(await room.database.query('select id from run where id = $1', [facts.id])).toEqual([])
})

test('no more runs work at once than the cap allows, and all of them finish', async () => {
  const organization = await room.organization()
  let working = 0
  let most = 0
  let meet: () => void
  const met = new Promise<void>((resolve) => {
    meet = resolve
  })
  const counted: Performer = {
    ...threeSteps,
    async perform(held) {
      most = Math.max(most, ++working)
      // The first waits for the second, however fast it is itself.
      if (working === 2) meet()
      await Promise.race([met, aborted(held)])
      for (const step of [1, 2, 3]) await takeStep(held, step)
      working--
      await held.send({ type: 'complete', reason: 'completed', output: 'done', delivery: null })
    },
  }
  await using worker = await room.engine({ performer: counted, capOf: () => 2 })
  worker.engine.start()
  const all = Array.from({ length: 6 }, () => factsOf(organization))
  await Promise.all(all.map((facts) => worker.create(facts)))
  const ends = await Promise.all(all.map(({ id }) => worker.finished(id)))
  expect(ends.every(({ state }) => state === 'completed')).toBe(true)
  expect(most).toBe(2)
  const lanes = await room.database.query('select queued, running from lane where organization_id = $1', [
    organization,
  ])
  expect(lanes).toEqual([{ queued: 0, running: 0 }])
})

test('a tenant at its cap waits, and says its place, while another tenant works', async () => {
  const organization = await room.organization()
  const performer = gatedPerformer()
  const capOf = ({ kind }: Scope): number => (kind === 'tenant' ? 1 : NO_CAP)
  await using worker = await room.engine({ performer, capOf })
  worker.engine.start()
  const create = async (tenantId: string): Promise<RunFacts> =>
    (await worker.create(factsOf(organization, { tenantId }))).facts
  const [first, second, third] = [await create('a'), await create('a'), await create('a')]
  const other = await create('b')
  await Promise.all([first, other].map(({ id }) => performer.entered(id)))
  const waiting = await storedRun(room.database, third.id)
  expect(waiting.state).toBe('queued')
  expect(await findQueuePosition(room.database, waiting)).toBe(2)
  for (const { id } of [other, first, second, third]) {
    await performer.entered(id)
    performer.release(id)
    expect(await worker.finished(id)).toMatchObject({ state: 'completed' })
  }
})

test('a drained worker hands its run back and the next one goes on with it', async () => {
  const facts = factsOf(await room.organization())
  const first = await room.engine({ performer: patient })
  await first.create(facts)
  await first[Symbol.asyncDispose]()
  await using second = await room.engine()
  second.engine.start()
  expect(await second.finished(facts.id)).toMatchObject({ state: 'completed', attempt: 2 })
})

test('a canceled run says that its work stopped', async () => {
  const facts = factsOf(await room.organization())
  const performer = gatedPerformer(patient)
  await using worker = await room.engine({ performer })
  await worker.create(facts)
  await performer.entered(facts.id)
  await worker.engine.cancelRun(facts.id, 'key_test')
  const run = await worker.finished(facts.id)
  expect(performer.working).toEqual(new Set())
  expect(run).toMatchObject({ state: 'canceled', outcome: { stopped: { how: 'agreed' } } })
  expect(await worker.engine.cancelRun(facts.id, 'key_test')).toMatchObject({ state: 'canceled' })
})
