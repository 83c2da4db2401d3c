import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { RunId } from '../../src/domain/facts.ts'
import { ClaimLost, type Performer } from '../../src/domain/performer.ts'
import type { Run } from '../../src/domain/run.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { DatabaseError } from '../../src/storage/database-error.ts'
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
beforeEach(async () => {
  room = await openEngineRoom()
})
afterEach(() => room[Symbol.asyncDispose]())

/** A lease so short that a test can wait for its end. Without `start` nobody renews it. */
const SHORT = { leaseMs: 600, renewMs: 200, fenceMs: 400 }

const leaseUntil = async (workerId: string): Promise<number> => {
  const [row] = await room.database.query<{ lease_until: Date }>(
    'select lease_until from worker where id = $1',
    [workerId],
  )
  return row?.lease_until.getTime() ?? 0
}

describe('a worker that cannot renew its lease', () => {
  test('stops before the lease is over, and what it writes afterwards is refused', async () => {
    const organization = await room.organization()
    const facts = factsOf(organization)
    let stoppedAt = 0
    let lateWrite: unknown
    let isOver: () => void = () => undefined
    const over = new Promise<void>((resolve) => {
      isOver = resolve
    })
    let second: Promise<unknown> = Promise.resolve()
    const stubborn: Performer = {
      resumePoint: async () => 0,
      async perform(held) {
        await takeStep(held, 1)
        await aborted(held)
        stoppedAt = Date.now()
        await second
        lateWrite = await takeStep(held, 2).catch((error: unknown) => error)
        isOver()
        throw lateWrite
      },
    }
    await using frozen = await room.engine({ ...SHORT, performer: stubborn })
    await using other = await room.engine()
    second = other.finished(facts.id)
    await frozen.create(facts)
    const end = await leaseUntil(frozen.workerId)
    other.engine.start()
    const run = await other.finished(facts.id)
    await over
    expect(stoppedAt).toBeLessThan(end)
    expect(run.startedAt).toBeLessThan(end)
    expect(lateWrite).toBeInstanceOf(ClaimLost)
    expect(run).toMatchObject({
      state: 'completed',
      attempt: 2,
      usage: { steps: 3 },
      chargedMicro: 1_000_000,
    })
    expect(await room.findings()).toEqual([])
  })

  test('is not robbed before the lease is over', async () => {
    const organization = await room.organization()
    const facts = factsOf(organization)
    await using frozen = await room.engine({ ...SHORT, performer: patient })
    await using other = await room.engine()
    await frozen.create(facts)
    const end = await leaseUntil(frozen.workerId)
    other.engine.start()
    await other.finished(facts.id)
    const [resumed] = await room.database.query<{ at: Date }>(
      `select at from run_event where run_id = $1 and events like '%"run.resumed"%'`,
      [facts.id],
    )
    expect(resumed?.at.getTime()).toBeGreaterThanOrEqual(end)
  })

  test('goes on with its own runs when it comes back and nobody took them', async () => {
    const organization = await room.organization()
    const facts = factsOf(organization)
    let attempts = 0
    const performer: Performer = {
      ...threeSteps,
      perform: (held) => (++attempts === 1 ? patient.perform(held) : threeSteps.perform(held)),
    }
    const fenced = new AbortController()
    await using opened = await room.engine({ ...SHORT, performer, onFenced: () => fenced.abort() })
    await opened.create(facts)
    await aborted(fenced)
    expect(opened.complaints).toEqual(['The lease could not be renewed in time; all work stops.'])
    // As after a freeze: the renewal succeeds again, and the rounds of the engine run as usual.
    opened.engine.start()
    expect(await opened.finished(facts.id)).toMatchObject({ state: 'completed', attempt: 2 })
    expect(await room.findings()).toEqual([])
  }, 10_000)

  test('takes nothing new while it is fenced', async () => {
    const organization = await room.organization()
    const fenced = new AbortController()
    await using frozen = await room.engine({ ...SHORT, onFenced: () => fenced.abort() })
    await aborted(fenced)
    await using api = await room.engine({ slots: 0 })
    const facts = factsOf(organization)
    await api.create(facts)
    await frozen.engine.rounds.claims.tick()
    await frozen.create(factsOf(organization))
    expect((await storedRun(room.database, facts.id)).attempt).toBe(0)
    await frozen.engine.rounds.lease.tick()
    await frozen.engine.rounds.claims.tick()
    expect(await frozen.finished(facts.id)).toMatchObject({ state: 'completed' })
  })
})

describe('a worker that drains', () => {
  test('hands its runs over: the other goes on from the journal, and no attempt counts as a strike', async () => {
    const organization = await room.organization()
    const stepThenWait: Performer = {
      resumePoint: async (run) => run.begunStep,
      async perform(held) {
        if (held.run.begunStep === 0) await takeStep(held, 1)
        await patient.perform(held)
      },
    }
    const first = await room.engine({ performer: stepThenWait })
    const all = Array.from({ length: 12 }, () => factsOf(organization))
    await Promise.all(all.map((facts) => first.create(facts)))
    await using second = await room.engine()
    second.engine.start()
    await first[Symbol.asyncDispose]()
    const ends = await Promise.all(all.map(({ id }) => second.finished(id)))
    for (const run of ends) {
      expect(run).toMatchObject({ state: 'completed', attempt: 2, usage: { steps: 3 }, strikes: 0 })
    }
    expect(await room.findings()).toEqual([])
  })

  test('ten times in a row does not make a run poison', async () => {
    const organization = await room.organization()
    const facts = factsOf(organization)
    for (let attempt = 1; attempt <= 10; attempt++) {
      const gated = gatedPerformer(patient)
      const worker = await room.engine({ performer: gated })
      if (attempt === 1) await worker.create(facts)
      else await worker.engine.rounds.claims.tick()
      await gated.entered(facts.id)
      await worker[Symbol.asyncDispose]()
    }
    await using last = await room.engine()
    await last.engine.rounds.claims.tick()
    expect(await last.finished(facts.id)).toMatchObject({ state: 'completed', attempt: 11 })
  })

  test('hands back also what it was just taking', async () => {
    const organization = await room.organization()
    const facts = factsOf(organization)
    let goOn: () => void = () => undefined
    let reached: () => void = () => undefined
    const isCommitted = new Promise<void>((resolve) => {
      reached = resolve
    })
    const held = new Promise<void>((resolve) => {
      goOn = resolve
    })
    let first = true
    const draining = await room.engine({
      performer: patient,
      pause: async (name) => {
        if (name !== 'commit.after' || !first) return
        first = false
        reached()
        await held
      },
    })
    const created = draining.create(facts)
    await isCommitted
    const closed = draining[Symbol.asyncDispose]()
    goOn()
    await Promise.all([created, closed])
    expect(draining.complaints).toEqual([])
    const [row] = await room.database.query('select worker_id, handed_back from run where id = $1', [
      facts.id,
    ])
    expect(row).toEqual({ worker_id: null, handed_back: true })
  })
})

describe('a database that goes away under the performer', () => {
  test('does not end the run, however often: another attempt goes on', async () => {
    const organization = await room.organization()
    const facts = factsOf(organization)
    let attempts = 0
    const performer: Performer = {
      ...threeSteps,
      async perform(held) {
        if (++attempts <= 5) throw new DatabaseError(new Error('Connection terminated unexpectedly'))
        await threeSteps.perform(held)
      },
    }
    await using opened = await room.engine({ performer })
    opened.engine.start()
    await opened.create(facts)
    expect(await opened.finished(facts.id)).toMatchObject({ state: 'completed', attempt: 6 })
  })
})

test('a cancel reaches a run at work in another process', async () => {
  const organization = await room.organization()
  await using worker = await room.engine({ performer: patient })
  await using api = await room.engine({ slots: 0 })
  worker.engine.start()
  const facts = factsOf(organization)
  await worker.create(facts)
  expect(await api.engine.cancelRun(facts.id, 'key_1')).toMatchObject({ state: 'running' })
  expect(await worker.finished(facts.id)).toMatchObject({
    state: 'canceled',
    outcome: { stopped: { how: 'agreed' } },
  })
})

test('a run that only somebody who is gone could stop is canceled by the next claim, and what it left goes', async () => {
  const organization = await room.organization()
  const facts = factsOf(organization)
  const forgotten: RunId[] = []
  const forget = async (run: Run): Promise<void> => void forgotten.push(run.facts.id)
  const gated = gatedPerformer(patient)
  const dead = await room.engine({ performer: gated })
  await dead.create(facts)
  await gated.entered(facts.id)
  await using api = await room.engine({ performer: { ...patient, forget } })
  await api.engine.cancelRun(facts.id, 'key_1')
  expect(forgotten).toEqual([])
  await room.database.query('delete from worker where id = $1', [dead.workerId])
  await api.engine.rounds.claims.tick()
  const run = await storedRun(room.database, facts.id as RunId)
  expect(run).toMatchObject({ state: 'canceled', outcome: { stopped: { how: 'fenced' } } })
  expect(forgotten).toEqual([facts.id])
  await dead[Symbol.asyncDispose]()
})

test('a run that was handed back and whose time is over is ended by the sweep, and what it left goes', async () => {
  const facts = factsOf(await room.organization())
  const hours = 2 * 60 * 60 * 1_000
  const early = { ...systemClock, now: () => systemClock.now() - hours }
  const gated = gatedPerformer(patient)
  const before = await room.engine({ performer: gated, clock: early })
  await before.create({ ...facts, createdAt: early.now() })
  await gated.entered(facts.id)
  await before[Symbol.asyncDispose]()
  const forgotten: RunId[] = []
  const forget = async (run: Run): Promise<void> => void forgotten.push(run.facts.id)
  await using api = await room.engine({ slots: 0, performer: { ...patient, forget } })
  await api.engine.rounds.sweep.tick()
  const run = await storedRun(room.database, facts.id as RunId)
  expect(run).toMatchObject({ state: 'failed', statusReason: 'limit_time' })
  expect(forgotten).toEqual([facts.id])
})
