/**
 * Owns: this worker's lease.
 * Invariants: a worker that has not renewed within `fenceMs`, by its monotonic clock from when it sent the last
 * good renewal, holds nothing any more and says so before its lease is over.
 * Leaves to others: stopping the work, and taking over runs of workers whose lease is over.
 */
import type { Clock } from '../lib/clock.ts'
import type { Db } from '../storage/database.ts'
import { deleteWorker, insertWorker, renewLease, type WorkerRow } from '../storage/workers.ts'

export interface LeaseOptions {
  db: Db
  clock: Clock
  worker: WorkerRow
  leaseMs: number
  fenceMs: number
  onFenced: () => void
}

export class Lease {
  readonly #options: LeaseOptions
  #sentAt: number
  #fenced = false
  #forget: (() => void) | null = null

  private constructor(options: LeaseOptions) {
    this.#options = options
    this.#sentAt = options.clock.monotonic()
  }

  static async take(options: LeaseOptions): Promise<Lease> {
    const lease = new Lease(options)
    const now = options.clock.now()
    const times = { startedAt: new Date(now), leaseUntil: new Date(now + options.leaseMs) }
    await insertWorker(options.db, options.worker, times)
    lease.#watch()
    return lease
  }

  get isFenced(): boolean {
    return this.#fenced
  }

  /** Renews; a worker that was fenced or declared dead takes a new lease and starts with nothing. */
  async tick(): Promise<boolean> {
    const { db, clock, worker, leaseMs } = this.#options
    const sentAt = clock.monotonic()
    const leaseUntil = new Date(clock.now() + leaseMs)
    if (!(await renewLease(db, worker.id, leaseUntil))) {
      this.#fence()
      await insertWorker(db, worker, { startedAt: new Date(clock.now()), leaseUntil })
    }
    this.#sentAt = sentAt
    this.#fenced = false
    this.#watch()
    return false
  }

  #watch(): void {
    this.#forget?.()
    const left = this.#sentAt + this.#options.fenceMs - this.#options.clock.monotonic()
    this.#forget = this.#options.clock.after(Math.max(0, left), () => this.#fence())
  }

  #fence(): void {
    if (this.#fenced) return
    this.#fenced = true
    this.#options.onFenced()
  }

  async release(): Promise<void> {
    this.#forget?.()
    await deleteWorker(this.#options.db, this.#options.worker.id)
  }
}
