/**
 * Owns: the parts of the run core in one process and their lifetimes.
 * Invariants: nothing is announced before its commit (2); a process that drains takes nothing and loses nothing.
 * Leaves to others: what working on a run means (the performer), who may call (http).
 */
import { GateError } from '../domain/error.ts'
import type { RunFacts, RunId } from '../domain/facts.ts'
import { isFinal } from '../domain/lifecycle.ts'
import type { Performer } from '../domain/performer.ts'
import type { Run } from '../domain/run.ts'
import type { Clock } from '../lib/clock.ts'
import { Loop, type Ticking } from '../lib/loop.ts'
import { putBlob } from '../storage/blobs.ts'
import type { CommitRow } from '../storage/commit-row.ts'
import type { Database } from '../storage/database.ts'
import { readJournal } from '../storage/journal.ts'
import { listDue } from '../storage/queue.ts'
import type { WorkerRow } from '../storage/workers.ts'
import { Claims } from './claims.ts'
import type { CapOf } from './decisions.ts'
import type { Answer } from './flusher.ts'
import { Flushers } from './flushers.ts'
import { type Created, type CreateRequest, Intake } from './intake.ts'
import { lateUsageNotes } from './late-usage.ts'
import { Lease } from './leases.ts'
import { type Committed, Mailboxes } from './mailbox.ts'
import { Watch } from './watch.ts'
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

const POLL_MS = 1_000
const SWEEP_LIMIT = 100

export class Engine implements AsyncDisposable {
  readonly #options: EngineOptions
  readonly #flushers: Flushers
  readonly #mailboxes: Mailboxes
  readonly #workbench: Workbench
  readonly #claims: Claims
  readonly #intake: Intake
  readonly #watch: Watch
  readonly #lease: Lease
  readonly #loops: Loop[] = []
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
    const shared = {
      database,
      clock,
      mailboxes: this.#mailboxes,
      workbench: this.#workbench,
      workerId: options.worker.id,
      isFenced: () => lease.isFenced,
      wakeClaims: () => this.#wakeClaims(),
    }
    const { graceUntil, maxQueued } = options
    this.#claims = new Claims({ ...shared, performer, capOf, graceUntil, log })
    this.#intake = new Intake({ ...shared, claims: this.#claims, maxQueued })
    this.#watch = new Watch(shared)
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
      watch: this.#watch,
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
  createRun(facts: RunFacts, request: CreateRequest): Promise<Created> {
    return this.#intake.create(facts, request)
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

function refusedBy(answer: Exclude<Answer, 'applied'>, { expectedClaim }: CommitRow): Refused {
  if (typeof answer === 'string') return answer
  if (answer.cause === 'key_taken') return 'key_taken'
  const isOthers = answer.cause === 'moved' && expectedClaim !== null && answer.claim !== expectedClaim
  return isOthers ? 'fenced' : 'reloaded'
}
