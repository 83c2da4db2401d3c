/** Rooms in the order they were opened; Node 20 has no `AsyncDisposableStack`. */
export class Rooms {
  readonly #closers: (() => Promise<void>)[] = []

  use<R extends AsyncDisposable>(room: R): R {
    this.#closers.push(async () => room[Symbol.asyncDispose]())
    return room
  }

  defer(close: () => Promise<void>): void {
    this.#closers.push(close)
  }

  /** Closes what is open, last to first, all of it even when one fails; then reports the first failure. */
  async close(): Promise<void> {
    const failures: unknown[] = []
    for (const close of this.#closers.splice(0).reverse()) {
      await close().catch((error: unknown) => failures.push(error))
    }
    if (failures.length > 0) throw failures[0]
  }
}
