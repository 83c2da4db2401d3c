import { type CommitRow, isLight } from '../storage/commit-row.ts'
import { type Answer, Flusher, type FlusherOptions } from './flusher.ts'

/** What locks accounts and places goes one way: beside it steps are written without waiting for those locks. */
export class Flushers implements AsyncDisposable {
  readonly #steps: Flusher
  readonly #places: Flusher

  constructor(options: FlusherOptions) {
    this.#steps = new Flusher(options)
    this.#places = new Flusher(options)
  }

  submit(row: CommitRow): Promise<Answer> {
    return (isLight(row) ? this.#steps : this.#places).submit(row)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#steps, this.#places].map((flusher) => flusher[Symbol.asyncDispose]()))
  }
}
