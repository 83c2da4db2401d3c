/**
 * Owns: the parts of the run core in one process and their lifetimes.
 * Invariants: nothing is announced before its commit (2); a process that drains takes nothing and loses nothing.
 * Leaves to others: what working on a run means (the performer), who may call (http).
 */
import { GateError } from '../domain/error.ts'
import type { RunFacts, RunId } from '../domain/facts.ts'
import { organizationScope, scopesOf } from '../domain/fairness.ts'
import { isFinal } from '../domain/lifecycle.ts'
import { availableMicro, MICRO_PER_CREDIT } from '../domain/money.ts'
import { ClaimLost, type Performer } from '../domain/performer.ts'
import { type Run, timeDeadline, unborn } from '../domain/run.ts'
import { BoundedMap } from '../lib/bounded-map.ts'
import type { Clock } from '../lib/clock.ts'
import { Loop, type Ticking } from '../lib/loop.ts'
import { storableJson } from '../lib/text.ts'
import { findAccount } from '../storage/accounts.ts'
import { putBlob } from '../storage/blobs.ts'
import type { Birth, CommitRow } from '../storage/commit-row.ts'
import type { Database } from '../storage/database.ts'
import { findAnswer } from '../storage/idempotency.ts'
import { readJournal } from '../storage/journal.ts'
import { countQueued, insertCapacity, listDue } from '../storage/queue.ts'
import { findHeldRun } from '../storage/runs.ts'
import { listHeld, type WorkerRow } from '../storage/workers.ts'
import { Claims, claiming } from './claims.ts'
import { type CapOf, placeOf, step } from './decisions.ts'
import type { Answer } from './flusher.ts'
import { Flushers } from './flushers.ts'
import { lateUsageNotes } from './late-usage.ts'
import { Lease } from './leases.ts'
import { type Committed, KeyTaken, Mailboxes, type Reply, type Sending } from './mailbox.ts'
import { type Log, Workbench } from './workbench.ts'

export interface EngineOptions {
  database: Database
  clock: Clock
  /** The log's epoch (`installation.epoch`). */
  epoch: number
  worker: WorkerRow
  performer: Performer
  /** Runs this process works on at once; 0 is a process that only takes orders. */
  slots: number
  capOf: CapOf
  /** Queued runs an organisation may have in one mode before creates are refused. */
  maxQueued: number
  leaseMs: number
  renewMs: number
  fenceMs: number
  graceUntil: number
  log: Log
  onCommitted: (committed: Committed) => void
  onDraft: (id: RunId, text: string) => void
  onBatch: (rows: number, ms: number) => void
  /** A decision was not written as it was decided. */
  onRefused?: (why: Refused) => void
  /** The lease was lost, and all work with it. */
  onFenced?: () => void
  pause: (name: string) => Promise<void>
}

/** Why a decision was not written: `fenced` by another claim, `reloaded` because the run had moved. */
export type Refused = 'no_credit' | 'no_capacity' | 'key_taken' | 'fenced' | 'reloaded'

export interface Created {
  /** The run as its `run.created` event left it. */
  run: Run
  replayed: boolean
}

export interface CreateRequest {
  /** `tenantId` is that of the caller's key; empty for a key of the organisation. */
  idempotency: { route: string; key: string; bodyHash: string; tenantId: string } | null
}

const POLL_MS = 1_000
const SWEEP_LIMIT = 100
/** One that is forgotten is made sure of again, which is one statement. */
const SCOPES_KNOWN = 10_000

export class Engine implements AsyncDisposable {
  readonly #options: EngineOptions
  readonly #flushers: Flushers
  readonly #mailboxes: Mailboxes
  readonly #workbench: Workbench
  readonly #claims: Claims
  readonly #lease: Lease
  /** Scopes that are known to have a row to be counted in. */
  readonly #scopes = new BoundedMap<string, true>(SCOPES_KNOWN)
  readonly #loops: Loop[] = []
  /** Claims that the last look found held here and not worked on. */
  #idleClaims: ReadonlySet<string> = new Set()
  #wakeClaims: () => void = () => undefined
  #wakeWatch: () => void = () => undefined

  /** Registers the worker; work begins with `start`. */
  static async open(options: EngineOptions): Promise<Engine> {
    let fence = (): void => undefined
    const lease = await Lease.take({ ...options, db: options.database, onFenced: () => fence() })
    const engine = new Engine(options, lease)
    fence = () => {
      options.log.warn(
        { worker: options.worker.id },
        'The lease could not be renewed in time; all work stops.',
      )
      engine.#workbench.stopAll('fenced')
      options.onFenced?.()
    }
    return engine
  }

  private constructor(options: EngineOptions, lease: Lease) {
    const { database, clock, epoch, onBatch, pause, performer, capOf, log, onDraft } = options
    this.#options = options
    this.#lease = lease
    this.#flushers = new Flushers({ database, epoch, clock, onBatch, pause })
    this.#mailboxes = new Mailboxes({
      db: database,
      clock,
      workerId: options.worker.id,
      submit: (row) => this.#submit(row),
      storePack: async (text, at) => {
        const { hash } = await putBlob(database, text, {
          mediaType: 'application/x-ndjson',
          at: new Date(at),
        })
        return hash
      },
      capOf,
      onCommitted: (committed) => this.#committed(committed),
    })
    this.#workbench = new Workbench({
      performer,
      mailboxes: this.#mailboxes,
      slots: options.slots,
      readJournal: (id) => readJournal(database, id),
      onDraft,
      noteLate: lateUsageNotes({ database, clock, log }),
      onFree: () => this.#placeFreed(),
      log,
    })
    const { mailboxes, workbench } = { mailboxes: this.#mailboxes, workbench: this.#workbench }
    const { graceUntil } = options
    this.#claims = new Claims({
      database,
      clock,
      mailboxes,
      workbench,
      performer,
      capOf,
      graceUntil,
      workerId: options.worker.id,
      isFenced: () => lease.isFenced,
    })
  }

  async #submit(row: CommitRow): Promise<Answer> {
    const answer = await this.#flushers.submit(row)
    if (answer !== 'applied') this.#options.onRefused?.(refusedBy(answer, row))
    return answer
  }

  /** The rounds of the engine, for loops in production and for tests that settle by hand. */
  get rounds(): { claims: Ticking; lease: Ticking; sweep: Ticking; watch: Ticking } {
    return {
      claims: this.#claims,
      lease: { tick: () => this.#lease.tick() },
      sweep: { tick: () => this.#sweep() },
      watch: { tick: () => this.#watchHeld() },
    }
  }

  get isIdle(): boolean {
    return this.#workbench.isIdle
  }

  /** A run at work here as of its last commit; `null` for any other. */
  peek(id: RunId): Run | null {
    return this.#workbench.has(id) ? this.#mailboxes.peek(id) : null
  }

  start(): void {
    const { clock, log, renewMs, slots } = this.#options
    const loop = (name: string, round: Ticking, everyMs: number): Loop => {
      const onError = (error: unknown): void =>
        log.error({ loop: name, err: error }, 'A round of the engine failed.')
      const started = new Loop(round, { everyMs, clock, onError }).start()
      this.#loops.push(started)
      return started
    }
    const { claims, lease, sweep, watch } = this.rounds
    loop('lease', lease, renewMs)
    loop('sweep', sweep, POLL_MS)
    if (slots === 0) return
    const watchLoop = loop('watch', watch, POLL_MS)
    const claimLoop = loop('claims', claims, POLL_MS)
    this.#wakeWatch = () => watchLoop.wake()
    this.#wakeClaims = () => claimLoop.wake()
  }

  /** Another process moved these runs: looks at once at those held here and, where there is work, at the queue. */
  wake({ runs, isWork }: { runs: readonly RunId[] | 'all'; isWork: boolean }): void {
    if (isWork) {
      this.#claims.expect()
      this.#wakeClaims()
    }
    if (runs === 'all' || runs.some((id) => this.#workbench.has(id))) this.#wakeWatch()
  }

  /**
   * Makes a run durable, and takes it to work at once when there is a free slot. Throws `GateError`
   * INSUFFICIENT_CREDITS, IDEMPOTENCY_KEY_REUSED, QUEUE_FULL.
   */
  async createRun(facts: RunFacts, request: CreateRequest): Promise<Created> {
    for (const { key } of scopesOf(placeOf(facts))) await this.#knowScope(key)
    try {
      const isWaiting = this.#claims.isWaiting(organizationScope(facts))
      const isReady = this.#workbench.free > 0 && !this.#lease.isFenced && !isWaiting
      const run = isReady ? await this.#bear(facts, request) : await this.#enqueue(facts, request)
      return { run, replayed: false }
    } catch (error) {
      if (error instanceof KeyTaken) return this.#replay(error, request)
      throw await this.#withFigures(error, facts)
    }
  }

  /** Birth-claim: create and claim are one decision, and the run is at work when its create is acknowledged. */
  #bear(facts: RunFacts, request: CreateRequest): Promise<Run> {
    const { token, sending } = claiming(this.#options.worker.id, facts.createdAt)
    const [created, claimed] = this.#mailboxes.birth(facts, birthOf(facts, request), [CREATE, sending])
    const filled = this.#workbench.fill(async () => {
      const reply = await must(claimed).catch(ignoreLostClaim)
      if (reply === null) this.#claims.expect(organizationScope(facts))
      return reply?.run.state === 'running' ? { run: reply.run, token, resumePoint: 0 } : null
    })
    // The create has the same failure and reports it.
    filled.catch(() => undefined)
    return must(created).then(({ run }) => run)
  }

  async #enqueue(facts: RunFacts, request: CreateRequest): Promise<Run> {
    const queued = await countQueued(this.#options.database, facts.organizationId, facts.mode)
    if (queued >= this.#options.maxQueued) {
      await this.#findTwin(facts, request)
      const details = { queued, limit: this.#options.maxQueued }
      throw new GateError('QUEUE_FULL', `${queued} runs are waiting already.`, {
        details,
        hint: 'Try again when some have started.',
      })
    }
    const [created] = this.#mailboxes.birth(facts, birthOf(facts, request), [CREATE])
    const { run } = await must(created)
    const isKnown = this.#claims.isWaiting(organizationScope(facts))
    this.#claims.expect(organizationScope(facts))
    if (!isKnown) this.#wakeClaims()
    return run
  }

  /** Throws `KeyTaken` where the request was answered before: its answer needs no place in the queue. */
  async #findTwin({ organizationId, mode }: RunFacts, { idempotency }: CreateRequest): Promise<void> {
    if (idempotency === null) return
    const twin = await findAnswer(this.#options.database, { organizationId, mode, ...idempotency })
    if (twin !== undefined) throw new KeyTaken(twin.subjectId, twin.bodyHash)
  }

  async #replay(taken: KeyTaken, { idempotency }: CreateRequest): Promise<Created> {
    if (idempotency?.bodyHash !== taken.bodyHash) {
      throw new GateError('IDEMPOTENCY_KEY_REUSED', 'This Idempotency-Key was used with another body.', {
        hint: 'Use a new key for a new request.',
      })
    }
    const found = await findHeldRun(this.#options.database, taken.runId)
    if (found === undefined)
      throw new GateError('SERVICE_UNAVAILABLE', 'The run of this key cannot be read right now.')
    return { run: asCreated(found.run.facts), replayed: true }
  }

  async #withFigures(error: unknown, facts: RunFacts): Promise<unknown> {
    if (!(error instanceof GateError) || error.code !== 'INSUFFICIENT_CREDITS') return error
    const account = await findAccount(this.#options.database, facts.organizationId)
    const required = facts.reserveMicro / MICRO_PER_CREDIT
    const available = account === undefined ? 0 : Math.floor(availableMicro(account) / MICRO_PER_CREDIT)
    return new GateError(
      'INSUFFICIENT_CREDITS',
      `This run needs ${required} credits, and ${available} are available.`,
      {
        details: { required, available },
        hint: 'Grant credits, or lower constraints.maxCredits.',
        cause: error,
      },
    )
  }

  /** Throws RUN_FINISHED for a run that completed or failed; a canceled run is answered as it is. */
  async cancelRun(id: RunId, by: string): Promise<Run> {
    const { run, refusal } = await this.#mailboxes.send(id, { orders: [{ command: { type: 'cancel', by } }] })
    if (refusal !== null && run.state !== 'canceled') {
      throw new GateError('RUN_FINISHED', `Run ${id} has ${run.state} already.`, {
        details: { state: run.state },
      })
    }
    return run
  }

  #committed(committed: Committed): void {
    const { run } = committed
    if (isFinal(run.state)) {
      this.#workbench.ended(run)
      this.#placeFreed()
    } else if (run.cancelRequestedAt !== null) this.#workbench.stop(run.facts.id, 'canceled')
    if (this.#claims.clears(run)) this.#wakeClaims()
    this.#options.onCommitted(committed)
  }

  /** A slot or a place under a cap is free: whoever waits for it is looked for at once. */
  #placeFreed(): void {
    if (this.#claims.hasBacklog) this.#wakeClaims()
  }

  /** Sends `tick` to runs whose deadline has passed. */
  async #sweep(): Promise<boolean> {
    const { database, clock } = this.#options
    const due = await listDue(database, new Date(clock.now()), SWEEP_LIMIT)
    const replies = await Promise.allSettled(
      due.map((id) => this.#mailboxes.send(id, { orders: [{ command: { type: 'tick' } }] })),
    )
    return replies.length === SWEEP_LIMIT
  }

  /** Learns what other processes did to the runs at work here. */
  async #watchHeld(): Promise<boolean> {
    const { database, worker } = this.#options
    this.#stopOverdue()
    const held = new Map((await listHeld(database, worker.id)).map((row) => [row.id, row]))
    await this.#letGo([...held.values()].filter(({ id }) => !this.#workbench.has(id)))
    for (const id of this.#workbench.ids()) {
      const known = this.#mailboxes.peek(id)
      const lastSeq = held.get(id)?.lastSeq
      if (known !== null && lastSeq !== undefined && lastSeq <= known.lastSeq) continue
      await this.#lookAgain(id)
    }
    return false
  }

  /** Work that has gone on for as long as it may is told to stop; its end is told when it has. */
  #stopOverdue(): void {
    const now = this.#options.clock.now()
    for (const id of this.#workbench.ids()) {
      const run = this.#mailboxes.peek(id)
      const deadline = run && timeDeadline(run)
      if (deadline !== null && now >= deadline) this.#workbench.stop(id, 'overdue')
    }
  }

  /**
   * Gives up runs that stand as held here and are not worked on: those of a worker that was fenced and came back. One
   * that is just being claimed looks the same for a moment, so it has to be seen twice; its claim protects it then.
   */
  async #letGo(idle: readonly { id: RunId; claim: string }[]): Promise<void> {
    const again = idle.filter(({ claim }) => this.#idleClaims.has(claim))
    this.#idleClaims = new Set(idle.map(({ claim }) => claim))
    const holder = { claim: null, workerId: null, handedBack: false }
    const sends = again.map(({ id, claim }) =>
      this.#mailboxes.send(id, { orders: [{ command: { type: 'hand_back' } }], claim, holder }),
    )
    await Promise.allSettled(sends)
    if (again.length > 0) this.#wakeClaims()
  }

  async #lookAgain(id: RunId): Promise<void> {
    const found = await findHeldRun(this.#options.database, id)
    if (found === undefined || isFinal(found.run.state)) this.#workbench.stop(id, 'finished')
    else if (found.holding.workerId !== this.#options.worker.id) this.#workbench.stop(id, 'lost')
    else if (found.run.cancelRequestedAt !== null) this.#workbench.stop(id, 'canceled')
  }

  async #knowScope(scope: string): Promise<void> {
    if (this.#scopes.has(scope)) return
    await insertCapacity(this.#options.database, scope)
    this.#scopes.set(scope, true)
  }

  /** Drains: hands runs back, writes what was decided, gives the lease up. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#workbench.drain()
    await Promise.all(this.#loops.map((loop) => loop[Symbol.asyncDispose]()))
    await this.#flushers[Symbol.asyncDispose]()
    await this.#lease.release().catch((error: unknown) => {
      this.#options.log.warn({ err: error }, 'The lease was not given up; it will run out.')
    })
  }
}

const CREATE: Sending = { orders: [{ command: { type: 'create' } }] }

function refusedBy(answer: Exclude<Answer, 'applied'>, { expectedClaim }: CommitRow): Refused {
  if (typeof answer === 'string') return answer
  if (answer.cause === 'key_taken') return 'key_taken'
  const isOthers = answer.cause === 'moved' && expectedClaim !== null && answer.claim !== expectedClaim
  return isOthers ? 'fenced' : 'reloaded'
}

const asCreated = (facts: RunFacts): Run => step(unborn(facts), { type: 'create', at: facts.createdAt }).run

function birthOf(facts: RunFacts, { idempotency }: CreateRequest): Birth {
  const { organizationId, mode, tenantId, agent, order } = facts
  return {
    organizationId,
    mode,
    tenantId,
    agent: agent.slug,
    workOrderId: order?.id ?? null,
    facts: storableJson(facts),
    idempotency,
  }
}

async function must(reply: Promise<Reply> | undefined): Promise<Reply> {
  if (reply === undefined) throw new Error('every sending has a reply')
  return reply
}

function ignoreLostClaim(error: unknown): null {
  if (error instanceof ClaimLost) return null
  throw error
}
