/**
 * Owns: gathering the decisions of many runs into batches, and the writers' connections.
 * Invariants: a batch holds at most one row per run (callers send the next only after the answer); nobody hears
 * success or failure before PostgreSQL has answered; a batch without an answer is sent again unchanged, and the
 * rows themselves tell whether they had been applied (invariants 1, 3).
 * Leaves to others: what a row says, and what to do when the fence moved.
 */
import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../lib/clock.ts'
import { type Cause, classify, commitBatch, type Verdict, WRITER_SETTINGS } from '../storage/commit.ts'
import type { CommitRow } from '../storage/commit-row.ts'
import type { Database, DedicatedConnection } from '../storage/database.ts'
import { DatabaseError } from '../storage/database-error.ts'

const MAX_ROWS = 64
const MAX_BYTES = 512 * 1024
const MAX_TRIES = 20

export type Answer = Exclude<Verdict, 'unfenced'> | Exclude<Cause, { cause: 'already_applied' }>

interface Waiting {
  row: CommitRow
  bytes: number
  resolve: (answer: Answer) => void
  reject: (error: unknown) => void
}

export interface FlusherOptions {
  database: Database
  epoch: number
  clock: Clock
  /** Called after each batch with its size and the milliseconds its commit took. */
  onBatch: (rows: number, ms: number) => void
  /** A race point of crash tests; does nothing in production. */
  pause: (name: string) => Promise<void>
}

/** One writer: batches go one after the other, each as large as what gathered meanwhile. */
export class Flusher implements AsyncDisposable {
  readonly #options: FlusherOptions
  readonly #waiting: Waiting[] = []
  #connection: DedicatedConnection | null = null
  #flushing: Promise<void> | null = null
  #closed = false

  constructor(options: FlusherOptions) {
    this.#options = options
  }

  submit(row: CommitRow): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const bytes = row.fold.length + (row.events?.length ?? 0) + (row.birth?.facts.length ?? 0)
      this.#waiting.push({ row, bytes, resolve, reject })
      this.#flushing ??= this.#flush().finally(() => {
        this.#flushing = null
      })
    })
  }

  async #flush(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#gather()
      await this.#write(batch)
      await setImmediate()
    }
  }

  #gather(): Waiting[] {
    let bytes = 0
    let count = 0
    for (const each of this.#waiting) {
      bytes += each.bytes
      if (count === MAX_ROWS || (count > 0 && bytes > MAX_BYTES)) break
      count++
    }
    return this.#waiting.splice(0, count)
  }

  /** Halves a batch that PostgreSQL refuses as a whole, until the culprit stands alone. */
  async #write(batch: readonly Waiting[]): Promise<void> {
    const failure = await this.#commit(batch)
    if (failure === null) return
    if (batch.length === 1) {
      batch[0]?.reject(failure)
      return
    }
    const half = batch.length >> 1
    await this.#write(batch.slice(0, half))
    await this.#write(batch.slice(half))
  }

  /** Answers the batch, or returns the error of a batch that was refused and wrote nothing. */
  async #commit(batch: readonly Waiting[]): Promise<unknown> {
    const rows = batch.map(({ row }) => row)
    for (let attempt = 1; ; attempt++) {
      try {
        const connection = await this.#connect()
        await this.#options.pause('commit.before')
        const startedAt = this.#options.clock.monotonic()
        const verdicts = await commitBatch(connection, this.#options.epoch, rows)
        await this.#options.pause('commit.after')
        this.#options.onBatch(rows.length, this.#options.clock.monotonic() - startedAt)
        const answers = await this.#answers(connection, rows, verdicts)
        batch.forEach(({ resolve }, i) => {
          resolve(answers[i] ?? { cause: 'missing' })
        })
        return null
      } catch (error) {
        if (!isWorthRepeating(error) || this.#closed || attempt === MAX_TRIES) return error
        await this.#recover(error, attempt)
      }
    }
  }

  async #answers(
    connection: DedicatedConnection,
    rows: readonly CommitRow[],
    verdicts: ReadonlyMap<string, Verdict>,
  ): Promise<Answer[]> {
    const answers: Answer[] = []
    for (const row of rows) {
      const verdict = verdicts.get(row.runId) ?? 'unfenced'
      if (verdict === 'applied') {
        answers.push(verdict)
        continue
      }
      // What was applied before its answer was lost may not fit twice; nor does a key that is used again.
      const why = await classify(connection, row)
      if (why.cause === 'already_applied') answers.push('applied')
      else answers.push(verdict === 'unfenced' || why.cause === 'key_taken' ? why : verdict)
    }
    return answers
  }

  async #connect(): Promise<DedicatedConnection> {
    if (this.#connection !== null) return this.#connection
    const connection = await this.#options.database.connect(WRITER_SETTINGS)
    connection.onEnd(() => {
      if (this.#connection === connection) this.#connection = null
    })
    this.#connection = connection
    return connection
  }

  async #recover(error: unknown, attempt: number): Promise<void> {
    if (error instanceof DatabaseError && error.isConnectionLost) {
      const lost = this.#connection
      this.#connection = null
      await lost?.close().catch(() => undefined)
    }
    await new Promise<void>((resolve) => {
      this.#options.clock.after(Math.min(10 * 2 ** attempt, 1_000), resolve)
    })
  }

  /** Waits for what was submitted, then gives the connection back. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#flushing
    this.#closed = true
    await this.#connection?.close()
  }
}

const isWorthRepeating = (error: unknown): boolean => error instanceof DatabaseError && error.isTransient
