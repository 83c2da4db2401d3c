import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { RunFacts, RunId } from '../../src/domain/facts.ts'
import type { Performer } from '../../src/domain/performer.ts'
import { systemClock } from '../../src/lib/clock.ts'
import {
  type EngineRoom,
  factsOf,
  gatedPerformer,
  type OpenEngine,
  openEngineRoom,
  patient,
  storedRun,
  takeStep,
} from './engine-room.ts'

let room: EngineRoom
const lost: OpenEngine[] = []
beforeEach(async () => {
  room = await openEngineRoom()
})
afterEach(async () => {
  for (const worker of lost.splice(0)) await worker[Symbol.asyncDispose]()
  await room[Symbol.asyncDispose]()
})

/** Takes one step and waits. */
const stepThenWait: Performer = {
  ...patient,
  async perform(held) {
    await takeStep(held, held.run.begunStep + 1)
    await patient.perform(held)
  },
}

async function runsOf(count: number): Promise<RunFacts[]> {
  const organization = await room.organization()
  return Array.from({ length: count }, () => factsOf(organization)).toSorted((a, b) => (a.id < b.id ? -1 : 1))
}

type Working = OpenEngine & { gated: ReturnType<typeof gatedPerformer> }

/** A worker that has all these runs at work; those that are new are born there. */
async function workerWith(all: readonly RunFacts[], inner: Performer = patient): Promise<Working> {
  const gated = gatedPerformer(inner)
  const worker = await room.engine({ performer: gated })
  const known = await room.database.query<{ id: RunId }>('select id from run')
  for (const facts of all) if (!known.some(({ id }) => id === facts.id)) await worker.create(facts)
  await worker.engine.rounds.claims.tick()
  for (const { id } of all) await gated.entered(id)
  return { ...worker, gated }
}

/** As if the process had died: nothing of it is heard again, and its row is taken away. */
async function loseWorkerWith(all: readonly RunFacts[]): Promise<void> {
  const worker = await workerWith(all)
  lost.push(worker)
  await room.database.query('delete from worker where id = $1', [worker.workerId])
}

const idsOf = (all: readonly RunFacts[]): Set<RunId> => new Set(all.map(({ id }) => id))

describe('a run that kills its worker at every attempt', () => {
  test('is given up at the fourth claim', async () => {
    const [bad] = await runsOf(1)
    if (bad === undefined) throw new Error('there is one run')
    for (let attempt = 1; attempt <= 3; attempt++) await loseWorkerWith([bad])
    await using last = await room.engine()
    await last.engine.rounds.claims.tick()
    const end = { state: 'failed', statusReason: 'agent_error', attempt: 3 }
    expect(await last.finished(bad.id)).toMatchObject(end)
    expect(await room.findings()).toEqual([])
  })
})

describe('runs without a step, whose worker died', () => {
  test('go on all at once', async () => {
    const all = await runsOf(4)
    await loseWorkerWith(all)
    await using survivor = await workerWith(all)
    expect(new Set(survivor.gated.working)).toEqual(idsOf(all))
  })

  test('go on one at a time after a second death, so that one bad run takes no other with it', async () => {
    const all = await runsOf(4)
    await loseWorkerWith(all)
    await loseWorkerWith(all)
    await using survivor = await workerWith([])
    const { claims } = survivor.engine.rounds
    for (const { id } of all) {
      await claims.tick()
      await survivor.gated.entered(id)
      expect([...survivor.gated.working]).toEqual([id])
      survivor.gated.release(id)
      await survivor.engine.cancelRun(id, 'the test')
      expect(await survivor.finished(id)).toMatchObject({ state: 'canceled' })
      while (survivor.gated.working.size > 0) await new Promise((resolve) => setImmediate(resolve))
    }
  })

  test('are taken up one after the other without waiting for the next poll', async () => {
    const all = await runsOf(4)
    await loseWorkerWith(all)
    await loseWorkerWith(all)
    const clock = { ...systemClock, after: () => () => undefined }
    await using survivor = await room.engine({ clock })
    survivor.engine.start()
    for (const { id } of all) expect(await survivor.finished(id)).toMatchObject({ state: 'completed' })
  })

  test('go on all at once when their second worker handed them back: only one was lost', async () => {
    const all = await runsOf(4)
    await loseWorkerWith(all)
    const second = await workerWith(all)
    await second[Symbol.asyncDispose]()
    await using survivor = await workerWith(all)
    expect(new Set(survivor.gated.working)).toEqual(idsOf(all))
  })

  test('go on all at once when they have had a step meanwhile', async () => {
    const all = await runsOf(4)
    await loseWorkerWith(all)
    const second = await workerWith(all, stepThenWait)
    lost.push(second)
    for (const { id } of all) second.gated.release(id)
    await expect.poll(async () => Promise.all(all.map(({ id }) => strikesOf(id)))).toEqual([0, 0, 0, 0])
    await room.database.query('delete from worker where id = $1', [second.workerId])
    await using survivor = await workerWith(all)
    expect(new Set(survivor.gated.working)).toEqual(idsOf(all))
  })
})

describe('a run on its last try', () => {
  /** One that lost two workers without a step, and one that has just lost its worker, after a step or before. */
  async function lastAndOther({ hasStep }: { hasStep: boolean }): Promise<[RunFacts, RunFacts]> {
    const [last, other] = await runsOf(2)
    if (last === undefined || other === undefined) throw new Error('there are two runs')
    await loseWorkerWith([last])
    await loseWorkerWith([last])
    const gated = gatedPerformer(stepThenWait)
    const worker = await room.engine({ performer: gated })
    lost.push(worker)
    await worker.create(other)
    await gated.entered(other.id)
    if (hasStep) {
      gated.release(other.id)
      await expect.poll(() => strikesOf(other.id)).toBe(0)
    }
    await room.database.query('delete from worker where id = $1', [worker.workerId])
    return [last, other]
  }

  for (const hasStep of [false, true]) {
    const when = hasStep ? 'after a step' : 'before its first step'
    test(`waits for the next step of one whose worker died ${when}`, async () => {
      const [last, other] = await lastAndOther({ hasStep })
      await using survivor = await workerWith([other], stepThenWait)
      const { gated, engine } = survivor
      await engine.rounds.claims.tick()
      expect([...gated.working]).toEqual([other.id])
      gated.release(other.id)
      const isTaken = async (): Promise<boolean> => {
        await engine.rounds.claims.tick()
        return gated.working.has(last.id)
      }
      await expect.poll(isTaken).toBe(true)
      expect(gated.working.has(other.id)).toBe(true)
    })
  }

  test('does not wait to be canceled', async () => {
    const [last, other] = await lastAndOther({ hasStep: false })
    await using survivor = await workerWith([other])
    await survivor.engine.cancelRun(last.id, 'the test')
    await survivor.engine.rounds.claims.tick()
    expect(await survivor.finished(last.id)).toMatchObject({ state: 'canceled' })
    expect([...survivor.gated.working]).toEqual([other.id])
  })
})

test('a run that cannot be taken up keeps no other back', async () => {
  const all = await runsOf(3)
  await loseWorkerWith(all)
  const gated = gatedPerformer(patient)
  const resumePoint: Performer['resumePoint'] = async (run) => {
    if (run.facts.id === all[0]?.id) throw new Error('its folder cannot be read')
    return run.begunStep
  }
  await using survivor = await room.engine({ performer: { ...gated, resumePoint } })
  await survivor.engine.rounds.claims.tick()
  expect(new Set(gated.working)).toEqual(idsOf(all.slice(1)))
  expect(survivor.complaints).toEqual(['A run could not be taken up.: Error: its folder cannot be read'])
})

const strikesOf = async (id: RunId): Promise<number> => (await storedRun(room.database, id)).strikes
