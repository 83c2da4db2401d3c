import type { Clock } from './clock.ts'

/** A background round: does a bounded amount of work and says whether there was any. */
export interface Ticking {
  tick(): Promise<boolean>
}

export interface LoopOptions {
  everyMs: number
  clock: Clock
  onError: (error: unknown) => void
}

/** Calls `tick` again at once while it finds work, else after `everyMs` or at the next `wake`. */
export class Loop implements AsyncDisposable {
  readonly #ticking: Ticking
  readonly #options: LoopOptions
  #forget: (() => void) | null = null
  #round: Promise<void> | null = null
  #wanted = false
  #closed = false

  constructor(ticking: Ticking, options: LoopOptions) {
    this.#ticking = ticking
    this.#options = options
  }

  start(): this {
    this.wake()
    return this
  }

  wake(): void {
    if (this.#closed) return
    this.#wanted = true
    this.#round ??= this.#run().finally(() => {
      this.#round = null
      if (this.#wanted) this.wake()
    })
  }

  async #run(): Promise<void> {
    this.#forget?.()
    while (this.#wanted && !this.#closed) {
      this.#wanted = false
      try {
        if (await this.#ticking.tick()) this.#wanted = true
      } catch (error) {
        this.#options.onError(error)
      }
    }
    if (!this.#closed) this.#forget = this.#options.clock.after(this.#options.everyMs, () => this.wake())
  }

  /** Ends the loop; resolves when the round under way is over. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    this.#forget?.()
    await this.#round
  }
}
