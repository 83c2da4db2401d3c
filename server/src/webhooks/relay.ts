/**
 * The relay tells receivers what happened: it sends what the outbox owes until each delivery has an outcome.
 *
 * Owns: deliveries it has claimed, and the record of every attempt.
 * Invariants: (1) a delivery is sent at least once or ends as refused or given up, for all to see (invariant 10 of the
 * house); (2) every attempt carries the same id and the same body; (3) an endpoint has at most `concurrencyPerUrl`
 * requests of this process, one while its breaker is open: a receiver that hangs delays its own deliveries only;
 * (4) nothing is forgotten by a crash: an attempt that was not recorded is made again when its claim is over.
 * Leaves to others: which deliveries are owed (written with their event), the schedule and the signatures (`domain`),
 * which addresses may be reached (`outbound`).
 */
import { setMaxListeners } from 'node:events'
import type { Mode } from '../domain/facts.ts'
import { decideDelivery, deliveryBody, deliveryHeaders, type SigningSecret } from '../domain/webhook.ts'
import type { Clock } from '../lib/clock.ts'
import type { Clean } from '../lib/redact.ts'
import type { GuardedFetch, OutboundAnswer, OutboundRequest } from '../outbound/guarded-fetch.ts'
import type { Db } from '../storage/database.ts'
import {
  type ClaimedDelivery,
  claimDueDeliveries,
  putOffDeliveries,
  type RecordedAttempt,
  recordAttempt,
  releaseDelivery,
} from '../storage/deliveries.ts'
import { EndpointLoad } from './endpoint-load.ts'

/** What came of an attempt; `put_off` is made again later. */
export type AttemptOutcome = 'delivered' | 'refused' | 'gave_up' | 'put_off'

export interface RelayOptions {
  db: Db
  clock: Clock
  fetch: GuardedFetch['fetch']
  /** What signs; undefined when there is none (yet). `tenantId` is empty for the organisation's own. */
  secretFor: (organizationId: string, tenantId: string, mode: Mode) => Promise<SigningSecret | undefined>
  /** Masks what is said about a delivery and kept. */
  cleanFor: (owner: Pick<ClaimedDelivery, 'organizationId' | 'tenantId' | 'mode'>) => Promise<Clean>
  /** The stored envelope, as text; undefined when it has been purged. */
  eventLine: (runId: string, seq: number) => Promise<string | undefined>
  /** In [0, 1). */
  random: () => number
  log: { warn(facts: object, sentence: string): void; error(facts: object, sentence: string): void }
  concurrencyPerUrl: number
  /** Called after each attempt was recorded. */
  onAttempt?: (outcome: AttemptOutcome) => void
  /** Race points: `delivery.claimed`, `delivery.sent`. */
  pause?: (name: string) => Promise<void>
}

export interface Relay extends AsyncDisposable {
  /** Claims what is due once, sends it, and waits for all that is under way. False when there was nothing to do. */
  tick(): Promise<boolean>
  start(): void
  /** Something may be due; never waits. */
  wake(): void
  /** Claims no more, gives requests under way two seconds and hands back those that are cut off. */
  close(): Promise<void>
}

const ANSWER_LIMIT_MS = 30_000
/** Longer than any attempt takes, so that no other relay repeats one that is still under way. */
const CLAIM_MS = 60_000
const POLL_MS = 1_000
const CLOSE_GRACE_MS = 2_000
const KEPT_ANSWER_CHARACTERS = 1_024
/** More is read than is kept, so that no secret is masked in its first half alone. */
const READ_ANSWER_BYTES = 4 * KEPT_ANSWER_CHARACTERS
const MAX_IN_FLIGHT = 512
/** What a receiver that does not answer has been owed for longer than this is given up. */
const PATIENCE_MS = 5 * 24 * 3_600_000

export const createRelay = (options: RelayOptions): Relay => new OutboxRelay(options)

interface Message {
  body: string
  headers: Record<string, string>
}

/** Why there is nothing to send, and whether that will ever change. */
interface Unsendable {
  error: string
  isFinal: boolean
}

class OutboxRelay implements Relay {
  readonly #options: RelayOptions
  readonly #load: EndpointLoad
  readonly #sends = new Set<Promise<void>>()
  readonly #cut = new AbortController()
  #isClosing = false
  #isWoken = false
  #endNap: () => void = () => undefined
  #loop: Promise<void> | undefined

  constructor(options: RelayOptions) {
    this.#options = options
    this.#load = new EndpointLoad(options.concurrencyPerUrl)
    setMaxListeners(MAX_IN_FLIGHT, this.#cut.signal)
  }

  async tick(): Promise<boolean> {
    const wasBusy = this.#sends.size > 0
    const didClaim = await this.#round()
    await Promise.all(this.#sends)
    return wasBusy || didClaim
  }

  start(): void {
    this.#loop ??= this.#run()
  }

  wake(): void {
    this.#isWoken = true
    this.#endNap()
  }

  async close(): Promise<void> {
    this.#isClosing = true
    this.wake()
    await this.#loop
    // Time of the machine, not of the clock effect: what it bounds are sockets.
    const grace = setTimeout(() => this.#cut.abort(), CLOSE_GRACE_MS)
    await Promise.all(this.#sends)
    clearTimeout(grace)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #run(): Promise<void> {
    while (!this.#isClosing) {
      this.#isWoken = false
      let didClaim = false
      try {
        didClaim = await this.#round()
      } catch (error) {
        this.#options.log.error({ err: error }, 'The relay could not claim deliveries.')
      }
      if (!didClaim) await this.#nap()
    }
  }

  /** Until something may be due: a wake, a send that ends, or the poll. */
  #nap(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#isWoken) return resolve()
      const forget = this.#options.clock.after(POLL_MS, resolve)
      this.#endNap = () => {
        forget()
        resolve()
      }
    })
  }

  /** Starts the sends of one claim without waiting for them; true if there was something to do. */
  async #round(): Promise<boolean> {
    const { db, clock, concurrencyPerUrl } = this.#options
    const atMs = clock.now()
    const isMorePaused = await this.#putOffPaused(atMs)
    const limit = MAX_IN_FLIGHT - this.#sends.size
    if (limit <= 0) return false
    const claimed = await claimDueDeliveries(db, {
      atMs,
      untilMs: atMs + CLAIM_MS,
      limit,
      perEndpoint: concurrencyPerUrl,
      slots: this.#load.slots(atMs),
    })
    for (const delivery of claimed) this.#startSend(delivery)
    return claimed.length > 0 || isMorePaused
  }

  async #putOffPaused(atMs: number): Promise<boolean> {
    const paused = this.#load.paused(atMs)
    if (paused.length === 0) return false
    return putOffDeliveries(this.#options.db, paused, { atMs, owedSinceMs: atMs - PATIENCE_MS })
  }

  #startSend(delivery: ClaimedDelivery): void {
    this.#load.begin(delivery.endpoint)
    const send = this.#send(delivery).finally(() => {
      this.#sends.delete(send)
      this.#load.end(delivery.endpoint)
      this.wake()
    })
    this.#sends.add(send)
  }

  /** Never rejects. What goes wrong on the way leaves the claim, and with its end the delivery is due again. */
  async #send(delivery: ClaimedDelivery): Promise<void> {
    const { clock, fetch, log, pause } = this.#options
    try {
      await pause?.('delivery.claimed')
      const atMs = clock.now()
      const message = await this.#compose(delivery, atMs)
      if ('error' in message) return await this.#recordUnsendable(delivery, message, atMs)
      const sentAt = clock.monotonic()
      const answer = await fetch(requestFor(delivery.url, message, this.#cut.signal))
      const latencyMs = Math.round(clock.monotonic() - sentAt)
      await pause?.('delivery.sent')
      if (this.#cut.signal.aborted && answer.outcome === 'refused') {
        return await releaseDelivery(this.#options.db, delivery.id)
      }
      await this.#recordAnswer(delivery, answer, latencyMs)
    } catch (error) {
      log.error({ err: error, deliveryId: delivery.id }, 'An attempt of a delivery could not be recorded.')
    }
  }

  async #compose(delivery: ClaimedDelivery, atMs: number): Promise<Message | Unsendable> {
    const { secretFor, eventLine, log } = this.#options
    const { organizationId, tenantId, mode, runId, seq, eventId, eventType, traceparent } = delivery
    try {
      const envelope = runId === null || seq === null ? undefined : await eventLine(runId, seq)
      if (envelope === undefined) return { error: 'The event is no longer kept.', isFinal: true }
      const secret = await secretFor(organizationId, tenantId, mode)
      if (secret === undefined) return { error: 'There is no secret to sign with.', isFinal: false }
      const body = deliveryBody(envelope)
      const trace = traceparent === null ? {} : { traceparent }
      return { body, headers: deliveryHeaders({ eventId, eventType, body, secret, atMs, ...trace }) }
    } catch (error) {
      log.error({ err: error, deliveryId: delivery.id }, 'A delivery could not be composed.')
      return { error: 'The delivery could not be composed.', isFinal: false }
    }
  }

  async #recordAnswer(delivery: ClaimedDelivery, answer: OutboundAnswer, latencyMs: number): Promise<void> {
    const { clock, random } = this.#options
    const atMs = clock.now()
    const status = answer.status ?? null
    const retryAfter = answer.outcome === 'answered' ? answer.headers['retry-after'] : undefined
    const attempts = delivery.attempts + 1
    this.#load.noteAnswer(delivery.endpoint, status, atMs)
    const kept = await this.#keepable(
      delivery,
      answer.outcome === 'answered' ? answer.body.toString('utf8') : answer.message,
    )
    await this.#record(delivery, {
      atMs,
      latencyMs,
      status,
      error: answer.outcome === 'refused' ? kept : null,
      answer: answer.outcome === 'answered' ? kept : null,
      decision: decideDelivery({ answer: { status, retryAfter }, attempts, atMs, jitter: random() }),
    })
  }

  /** What of it is kept; nothing where it cannot be masked, because the outcome has to be kept all the same. */
  async #keepable(delivery: ClaimedDelivery, said: string): Promise<string> {
    if (said === '') return said
    try {
      return (await this.#options.cleanFor(delivery))(said).slice(0, KEPT_ANSWER_CHARACTERS)
    } catch (error) {
      this.#options.log.error({ err: error, deliveryId: delivery.id }, 'An answer could not be masked.')
      return ''
    }
  }

  async #recordUnsendable(delivery: ClaimedDelivery, why: Unsendable, atMs: number): Promise<void> {
    const attempts = delivery.attempts + 1
    const decision = why.isFinal
      ? ({ outcome: 'gave_up' } as const)
      : decideDelivery({ answer: { status: null }, attempts, atMs, jitter: this.#options.random() })
    await this.#record(delivery, {
      atMs,
      latencyMs: 0,
      status: null,
      error: why.error,
      answer: null,
      decision,
    })
  }

  async #record(delivery: ClaimedDelivery, attempt: Omit<RecordedAttempt, 'id' | 'n'>): Promise<void> {
    await recordAttempt(this.#options.db, { id: delivery.id, n: delivery.attempts + 1, ...attempt })
    this.#options.onAttempt?.('outcome' in attempt.decision ? attempt.decision.outcome : 'put_off')
    if ('outcome' in attempt.decision && attempt.decision.outcome === 'gave_up') {
      this.#options.log.warn({ deliveryId: delivery.id, error: attempt.error }, 'A delivery was given up.')
    }
  }
}

const requestFor = (url: string, { headers, body }: Message, signal: AbortSignal): OutboundRequest => ({
  url,
  method: 'POST',
  headers,
  body,
  signal,
  timeoutMs: ANSWER_LIMIT_MS,
  maxAnswerBytes: READ_ANSWER_BYTES,
  excess: 'cut',
})
