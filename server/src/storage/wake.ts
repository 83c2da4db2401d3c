/**
 * Owns: the connection on which this process hears of what others did, and the hints it gives them.
 * Invariants: it listens before it says "look at everything", so that nothing falls between; hints go out at most
 * every 5 ms, and none while no other process is known.
 * Leaves to others: what a hint leads to. A hint may be lost: whoever waits also looks every second.
 */
import type { RunId } from '../domain/facts.ts'
import { type Backoff, backoffMs } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import { isId } from '../lib/id.ts'
import type { Database, DedicatedConnection } from './database.ts'
import { countOtherWorkers } from './workers.ts'

/** What another process did. */
export interface Hint {
  /** Runs that moved; `all` when hints may have been missed. */
  runs: readonly RunId[] | 'all'
  /** Whether one of them waits for a worker. */
  isWork: boolean
}

export interface WakeOptions {
  database: Database
  clock: Clock
  /** Of this process: its own hints come back to it. */
  workerId: string
  onHint: (hint: Hint) => void
  log: { warn(facts: object, sentence: string): void }
}

const CHANNEL = 'agentgate'
const GATHER_MS = 5
/** PostgreSQL takes payloads below 8,000 bytes; a run id and its comma are 31. */
const RUNS_PER_HINT = 200
const RECONNECT: Backoff = { firstMs: 50, factor: 2, maxMs: 5_000 }

export class Wake implements AsyncDisposable {
  readonly #options: WakeOptions
  readonly #moved = new Map<RunId, boolean>()
  #connection: DedicatedConnection | null = null
  #others = 0
  #forgetFlush: (() => void) | null = null
  #forgetRetry: (() => void) | null = null
  #flushing: Promise<void> | null = null
  #sentAt = Number.NEGATIVE_INFINITY
  #closed = false

  private constructor(options: WakeOptions) {
    this.#options = options
  }

  /** Listens, tells the others that it is there, and says "look at everything" once. */
  static async open(options: WakeOptions): Promise<Wake> {
    const wake = new Wake(options)
    await wake.#listen()
    await wake.tick()
    return wake
  }

  /** Counts the others anew; to be called at each renewal of the lease. */
  async tick(): Promise<boolean> {
    const { database, clock, workerId } = this.#options
    this.#others = await countOtherWorkers(database, workerId, new Date(clock.now()))
    return false
  }

  /** A run has moved here. Never waits. */
  notify(id: RunId, isWork: boolean): void {
    if (this.#others === 0 || this.#closed) return
    this.#moved.set(id, isWork || (this.#moved.get(id) ?? false))
    if (this.#forgetFlush !== null || this.#flushing !== null) return
    this.#gather()
  }

  #gather(): void {
    const { clock } = this.#options
    const left = Math.max(0, this.#sentAt + GATHER_MS - clock.monotonic())
    this.#forgetFlush = clock.after(left, () => {
      this.#forgetFlush = null
      this.#flushing = this.#flush().finally(() => {
        this.#flushing = null
        if (this.#moved.size > 0 && !this.#closed) this.#gather()
      })
    })
  }

  async #flush(): Promise<void> {
    const moved = [...this.#moved]
    this.#moved.clear()
    this.#sentAt = this.#options.clock.monotonic()
    for (let i = 0; i < moved.length; i += RUNS_PER_HINT) {
      const part = moved.slice(i, i + RUNS_PER_HINT)
      await this.#send(
        part.map(([id]) => id),
        part.some(([, isWork]) => isWork),
      )
    }
  }

  /** Without a connection there is nobody to tell; the others look every second. */
  async #send(runs: readonly RunId[], isWork: boolean): Promise<void> {
    const payload = `${this.#options.workerId} ${isWork ? 'work' : 'news'} ${runs.join(',')}`
    await this.#connection
      ?.query({ name: 'notify', text: `select pg_notify('${CHANNEL}', $1)` }, [payload])
      .catch((error: unknown) => this.#options.log.warn({ err: error }, 'A hint could not be given.'))
  }

  async #listen(): Promise<void> {
    const connection = await this.#options.database.connect()
    connection.onNotification((_, payload) => this.#hear(payload))
    connection.onEnd(() => this.#lost(connection))
    await connection.query(`listen ${CHANNEL}`)
    if (this.#closed) return connection.close()
    this.#connection = connection
    await this.#send([], false)
    this.#options.onHint({ runs: 'all', isWork: true })
  }

  #hear(payload: string): void {
    const [from, kind, ids = ''] = payload.split(' ')
    if (from === this.#options.workerId || this.#closed) return
    // Whoever speaks is there, though the last count may not know of it.
    this.#others = Math.max(1, this.#others)
    const runs = ids.split(',').filter((id) => isId('run', id))
    if (runs.length > 0 || kind === 'work') this.#options.onHint({ runs, isWork: kind === 'work' })
  }

  #lost(connection: DedicatedConnection): void {
    if (this.#connection !== connection) return
    this.#connection = null
    this.#retry(1)
  }

  #retry(attempt: number): void {
    if (this.#closed) return
    this.#forgetRetry = this.#options.clock.after(backoffMs(RECONNECT, attempt, Math.random()), () => {
      this.#listen().catch((error: unknown) => {
        this.#options.log.warn({ err: error, attempt }, 'Hints of other processes cannot be heard.')
        this.#retry(attempt + 1)
      })
    })
  }

  /** Last of all it tells the others that there may be runs to take over. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    this.#forgetFlush?.()
    this.#forgetRetry?.()
    await this.#flushing
    if (this.#others > 0) await this.#send([...this.#moved.keys()].slice(0, RUNS_PER_HINT), true)
    await this.#connection?.close()
  }
}
