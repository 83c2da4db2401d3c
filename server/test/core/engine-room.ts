import { DEFAULT_CONSTRAINTS, type RunFacts, type RunId } from '../../src/domain/facts.ts'
import { isFinal } from '../../src/domain/lifecycle.ts'
import { NO_TOKENS } from '../../src/domain/money.ts'
import type { HeldRun, Performer } from '../../src/domain/performer.ts'
import type { Run } from '../../src/domain/run.ts'
import { Engine, type EngineOptions } from '../../src/engine/engine.ts'
import type { CreateRequest } from '../../src/engine/intake.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { newId } from '../../src/lib/id.ts'
import { insertGrant } from '../../src/storage/credits.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { findHeldRun } from '../../src/storage/runs.ts'
import { type Finding, verifyDatabase } from '../../src/storage/verify.ts'
import { provideTestDatabase } from '../harness/postgres.ts'

/** A database with engines on it, for tests of what they do together. */
export interface EngineRoom extends AsyncDisposable {
  database: Database
  /** Opens an organisation with so many credits; its id. */
  organization(credits?: number): Promise<string>
  /** An engine that does nothing by itself until `start`, or until its rounds are called. */
  engine(overrides?: Partial<EngineOptions>): Promise<OpenEngine>
  /** All that `doctor --verify` finds. */
  findings(): Promise<Finding[]>
}

export interface OpenEngine extends AsyncDisposable {
  engine: Engine
  workerId: string
  /** Errors and warnings, as they were logged. */
  complaints: string[]
  /** Resolves with the run as it ended, seen by this engine. */
  finished(id: RunId): Promise<Run>
  create(facts: RunFacts, request?: Partial<CreateRequest>): Promise<Run>
}

/** An engine room on a database of its own, or on the one at `url`. */
export async function openEngineRoom(url?: string): Promise<EngineRoom> {
  const database = await openDatabase(url ?? (await provideTestDatabase()), {
    maxReaders: 8,
    statementTimeoutMs: 0,
  })
  return {
    database,
    organization: (credits = 10_000) => openOrganization(database, credits),
    engine: (overrides = {}) => openEngine(database, overrides),
    findings: () => findingsOf(database),
    [Symbol.asyncDispose]: () => database.close(),
  }
}

export async function findingsOf(database: Database): Promise<Finding[]> {
  const findings: Finding[] = []
  for await (const finding of verifyDatabase(database)) findings.push(finding)
  return findings
}

async function openOrganization(database: Database, credits: number): Promise<string> {
  const at = new Date()
  const id = newId('org', at.getTime())
  await database.query('insert into organization (id, name, created_at) values ($1, $2, $3)', [
    id,
    'test',
    at,
  ])
  const micro = credits * 1_000_000
  const grant = {
    id: newId('txn', at.getTime()),
    class: 'included' as const,
    micro,
    description: 'first',
    at,
  }
  await database.inTransaction((tx) => insertGrant(tx, id, grant))
  return id
}

async function openEngine(database: Database, overrides: Partial<EngineOptions>): Promise<OpenEngine> {
  const waiting = new Map<RunId, ((run: Run) => void)[]>()
  const ended = new Map<RunId, Run>()
  const complaints: string[] = []
  const complain = (facts: object, sentence: string): void => {
    const cause = 'err' in facts ? `: ${String(facts.err)}` : ''
    complaints.push(sentence + cause)
  }
  const worker = { id: newId('wrk', Date.now()), bootId: 'boot', pid: process.pid, pidStarted: '0' }
  const engine = await Engine.open({
    database,
    clock: systemClock,
    epoch: 1,
    worker,
    performer: threeSteps,
    slots: 64,
    capOf: () => 1_000,
    maxQueued: 1_000_000,
    // An engine that was not started renews nothing; what a lease does is for the tests of leases to say.
    leaseMs: 3_600_000,
    renewMs: 5_000,
    fenceMs: 3_000_000,
    graceUntil: 0,
    log: { error: complain, warn: complain },
    onDraft: () => undefined,
    onBatch: () => undefined,
    pause: async () => undefined,
    ...overrides,
    onCommitted: (committed) => {
      overrides.onCommitted?.(committed)
      const { run } = committed
      if (!isFinal(run.state)) return
      ended.set(run.facts.id, run)
      for (const resolve of waiting.get(run.facts.id) ?? []) resolve(run)
    },
  })
  return {
    engine,
    workerId: worker.id,
    complaints,
    finished: (id) =>
      new Promise((resolve) => {
        const already = ended.get(id)
        if (already) resolve(already)
        else waiting.set(id, [...(waiting.get(id) ?? []), resolve])
      }),
    create: async (facts, request = {}) =>
      (await engine.createRun(facts, { idempotency: null, ...request })).run,
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  }
}

export function factsOf(organizationId: string, overrides: Partial<RunFacts> = {}): RunFacts {
  const createdAt = Date.now()
  return {
    id: newId('run', createdAt),
    organizationId,
    mode: 'live',
    tenantId: '',
    agent: { id: 'agt_scripted', slug: 'scripted', version: '1', kind: 'scripted' },
    models: [],
    input: 'hello',
    order: null,
    constraints: DEFAULT_CONSTRAINTS,
    reserveMicro: 5_000_000,
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

/** One step, journaled. */
export async function takeStep(held: HeldRun, step: number): Promise<void> {
  await held.send({ type: 'begin_step', step, model: 'none', worstCase: NO_TOKENS })
  const text = `step ${step}`
  await held.send(
    { type: 'end_step', step, model: 'none', usage: NO_TOKENS, usageReported: true, text, calls: [] },
    [{ kind: 'step', step, iteration: 0, record: null, text, calls: [], usage: NO_TOKENS }],
  )
}

/** Goes on from the journal to the third step, and completes. */
export const threeSteps: Performer = {
  resumePoint: async (run) => run.begunStep,
  async perform(held) {
    const done = (await held.journal()).length
    for (let step = done + 1; step <= 3; step++) await takeStep(held, step)
    await held.send({ type: 'complete', reason: 'completed', output: 'done', delivery: null })
  },
}

export const aborted = ({ signal }: { signal: AbortSignal }): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })

/** Waits for the signal and stops. */
export const patient: Performer = {
  resumePoint: async (run) => run.begunStep,
  perform: (held) =>
    new Promise((_, reject) => {
      const stop = (): void => reject(new Error('stopped'))
      if (held.signal.aborted) stop()
      else held.signal.addEventListener('abort', stop, { once: true })
    }),
}

/** A performer whose runs wait until they are let go, each by itself. */
export function gatedPerformer(inner: Performer = threeSteps): Performer & {
  working: Set<RunId>
  release(id: RunId): void
  entered(id: RunId): Promise<void>
} {
  const working = new Set<RunId>()
  const gates = new Map<RunId, () => void>()
  const arrivals = new Map<RunId, () => void>()
  return {
    ...inner,
    working,
    release: (id) => gates.get(id)?.(),
    entered: (id) =>
      working.has(id) ? Promise.resolve() : new Promise((resolve) => arrivals.set(id, resolve)),
    async perform(held) {
      const { id } = held.run.facts
      working.add(id)
      arrivals.get(id)?.()
      try {
        await new Promise<void>((resolve) => {
          gates.set(id, resolve)
          held.signal.addEventListener('abort', () => resolve(), { once: true })
        })
        held.signal.throwIfAborted()
        await inner.perform(held)
      } finally {
        working.delete(id)
      }
    },
  }
}

/** The run as it stands in the database. */
export async function storedRun(database: Database, id: RunId): Promise<Run> {
  const found = await findHeldRun(database, id)
  if (found === undefined) throw new Error(`${id} does not exist`)
  return found.run
}
