import { type Breaker, breakerAfter, isOpen } from '../domain/webhook.ts'
import type { PausedEndpoint } from '../storage/deliveries.ts'

const FORGET_BREAKER_MS = 3_600_000

/** What each endpoint may be sent now: so many requests at once, one while its breaker is open, none during a pause. */
export class EndpointLoad {
  readonly #concurrency: number
  readonly #inFlight = new Map<string, number>()
  readonly #breakers = new Map<string, Breaker>()

  constructor(concurrency: number) {
    this.#concurrency = concurrency
  }

  begin(endpoint: string): void {
    this.#inFlight.set(endpoint, this.#countOf(endpoint) + 1)
  }

  end(endpoint: string): void {
    const rest = this.#countOf(endpoint) - 1
    if (rest > 0) this.#inFlight.set(endpoint, rest)
    else this.#inFlight.delete(endpoint)
  }

  /** `status` is null when no answer came. */
  noteAnswer(endpoint: string, status: number | null, atMs: number): void {
    const breaker = breakerAfter(this.#breakers.get(endpoint), status, atMs)
    if (breaker) this.#breakers.set(endpoint, breaker)
    else this.#breakers.delete(endpoint)
  }

  /** How many more requests may go to each endpoint that is busy or in trouble; all others are free. */
  slots(atMs: number): Map<string, number> {
    const endpoints = [...this.#inFlight.keys(), ...this.#breakers.keys()]
    return new Map(endpoints.map((endpoint) => [endpoint, this.#slotsOf(endpoint, atMs)]))
  }

  paused(atMs: number): PausedEndpoint[] {
    this.#forgetBreakersBefore(atMs - FORGET_BREAKER_MS)
    return [...this.#breakers]
      .filter(([, breaker]) => isOpen(breaker) && breaker.pausedUntilMs > atMs)
      .map(([endpoint, breaker]) => ({ endpoint, untilMs: breaker.pausedUntilMs }))
  }

  #slotsOf(endpoint: string, atMs: number): number {
    const breaker = this.#breakers.get(endpoint)
    if (!isOpen(breaker)) return Math.max(0, this.#concurrency - this.#countOf(endpoint))
    return breaker.pausedUntilMs > atMs ? 0 : Math.max(0, 1 - this.#countOf(endpoint))
  }

  #countOf(endpoint: string): number {
    return this.#inFlight.get(endpoint) ?? 0
  }

  #forgetBreakersBefore(ms: number): void {
    for (const [endpoint, breaker] of this.#breakers) {
      if (breaker.pausedUntilMs < ms) this.#breakers.delete(endpoint)
    }
  }
}
