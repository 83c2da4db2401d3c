import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../lib/clock.ts'

const TURN_MS = 10

/** Lets long searches give way: `if (turn.isOver()) await turn.next()`. */
export class Turn {
  readonly #clock: Clock
  readonly #signal: AbortSignal
  #startedAt: number

  constructor(clock: Clock, signal: AbortSignal) {
    this.#clock = clock
    this.#signal = signal
    this.#startedAt = clock.monotonic()
  }

  isOver(): boolean {
    return this.#clock.monotonic() - this.#startedAt >= TURN_MS
  }

  /** @throws the signal's reason once it is aborted */
  async next(): Promise<void> {
    await setImmediate()
    this.#signal.throwIfAborted()
    this.#startedAt = this.#clock.monotonic()
  }
}
