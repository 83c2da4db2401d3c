/** What an idempotency key stands for: one request object, as it was sent, to one place. */
interface Unsettled {
  key: string
  place: string
  body: string
}

/**
 * Keys of requests whose fate is unknown. Passing the same request object again repeats that request under its
 * first key, so that an order which did arrive is not placed twice. A changed object is another request.
 */
export class UnsettledKeys {
  readonly #kept = new WeakMap<object, Unsettled>()

  /** The kept key, which is handed out once, or a new one. */
  take(request: object | undefined, place: string, body: string): string {
    const kept = request && this.#kept.get(request)
    if (!kept || kept.place !== place || kept.body !== body) return crypto.randomUUID()
    this.#kept.delete(request)
    return kept.key
  }

  keep(request: object | undefined, unsettled: Unsettled): void {
    if (request) this.#kept.set(request, unsettled)
  }
}
