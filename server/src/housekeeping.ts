/** What the house does for itself: each round is short, and any process that works may do it at any time. */
import type { Clock } from './lib/clock.ts'
import { Loop, type Ticking } from './lib/loop.ts'
import type { Meters } from './meters.ts'
import { expireGrants, listExpiring } from './storage/credits.ts'
import type { Database } from './storage/database.ts'
import type { Disk } from './storage/disk.ts'
import { readFigures } from './storage/figures.ts'
import { bookLateUsage, listUnbooked } from './storage/late-usage.ts'
import { dropEmptyMonths, makeMonthsAhead, monthOf } from './storage/partitions.ts'
import {
  deleteOldAnswers,
  deleteOldDeliveries,
  listBundlesInUse,
  markPurgeable,
  purgePortion,
  sweepBlobs,
} from './storage/purge.ts'

export interface HousekeepingOptions {
  database: Database
  clock: Clock
  disk: Disk
  meters: Meters
  /** How long the log of a finished run is kept; `null` is for ever. */
  retentionMs: number | null
  log: { info(facts: object, sentence: string): void; error(facts: object, sentence: string): void }
}

const SECOND = 1_000
const HOUR = 3_600 * SECOND
const DAY = 24 * HOUR
/** Idempotency keys and deliveries are kept for so long. */
const KEPT_MS = 30 * DAY
/** Runs whose late usage is booked in one round. */
const RUNS_AT_ONCE = 100
/** A blob is stored before it is named; one that has not been for so long never will be. */
const NAMED_WITHIN_MS = HOUR

type RoundName = 'months' | 'purge' | 'blobs' | 'expiry' | 'money' | 'disk' | 'figures'

const EVERY_MS: Record<RoundName, number> = {
  months: HOUR,
  purge: 60 * SECOND,
  blobs: HOUR,
  expiry: 600 * SECOND,
  money: 10 * SECOND,
  disk: 10 * SECOND,
  figures: 10 * SECOND,
}

export class Housekeeping implements AsyncDisposable {
  readonly rounds: Record<RoundName, Ticking>
  readonly #options: HousekeepingOptions
  readonly #loops: Loop[] = []

  constructor(options: HousekeepingOptions) {
    const { database, clock, disk, meters } = options
    this.#options = options
    this.rounds = {
      months: { tick: () => this.#turnMonth() },
      purge: new Purge(options),
      blobs: new BlobSweep(options),
      expiry: { tick: () => this.#expire() },
      money: { tick: () => this.#settle() },
      disk,
      figures: {
        async tick() {
          meters.sample(await readFigures(database, clock.now()))
          return false
        },
      },
    }
  }

  /** What must stand before any work begins: a month for the log, and how full the disk is. */
  async prepare(): Promise<void> {
    await this.rounds.months.tick()
    await this.rounds.disk.tick()
  }

  /** All rounds, or only those about this process itself. */
  start(which: 'all' | 'own'): void {
    const { clock, log } = this.#options
    const own: readonly RoundName[] = ['disk', 'figures']
    for (const [name, round] of Object.entries(this.rounds) as [RoundName, Ticking][]) {
      if (which === 'own' && !own.includes(name)) continue
      const onError = (error: unknown): void =>
        log.error({ loop: name, err: error }, 'A round of housekeeping failed.')
      this.#loops.push(new Loop(round, { everyMs: EVERY_MS[name], clock, onError }).start())
    }
  }

  async #turnMonth(): Promise<boolean> {
    const { database, clock, retentionMs, log } = this.#options
    const made = await makeMonthsAhead(database, clock.now())
    const dropped =
      retentionMs === null ? [] : await dropEmptyMonths(database, monthOf(clock.now() - retentionMs))
    if (made.length + dropped.length > 0) log.info({ made, dropped }, 'The log has other months.')
    return false
  }

  async #expire(): Promise<boolean> {
    const { database, clock } = this.#options
    const before = new Date(clock.now() - KEPT_MS)
    const moreAnswers = await deleteOldAnswers(database, before)
    const moreDeliveries = await deleteOldDeliveries(database, before)
    return moreAnswers || moreDeliveries
  }

  /** Takes back what has expired, and books usage that came late. */
  async #settle(): Promise<boolean> {
    const { database, clock, log } = this.#options
    const at = new Date(clock.now())
    for (const organizationId of await listExpiring(database, at)) {
      await this.#alone({ organizationId }, async () => {
        const micro = await expireGrants(database, organizationId, at)
        if (micro > 0) log.info({ organizationId, micro }, 'Credits have expired.')
      })
    }
    const unbooked = await listUnbooked(database, RUNS_AT_ONCE)
    let booked = 0
    for (const runId of unbooked) {
      await this.#alone({ runId }, async () => {
        booked += await bookLateUsage(database, runId, at)
      })
    }
    return unbooked.length === RUNS_AT_ONCE && booked > 0
  }

  /** What cannot be settled for one is said, and tried again next time; the others do not wait for it. */
  async #alone(whose: object, settle: () => Promise<void>): Promise<void> {
    try {
      await settle()
    } catch (error) {
      this.#options.log.error({ ...whose, err: error }, 'An account could not be settled.')
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop[Symbol.asyncDispose]()))
  }
}

/** Looks at all runs once an hour, and removes what it has marked at once. */
class Purge implements Ticking {
  readonly #options: HousekeepingOptions
  #after = ''
  #restUntil = Number.NEGATIVE_INFINITY

  constructor(options: HousekeepingOptions) {
    this.#options = options
  }

  async tick(): Promise<boolean> {
    const { database, clock, retentionMs, meters } = this.#options
    if (await purgePortion(database)) return true
    const now = clock.now()
    if (retentionMs === null || now < this.#restUntil) return false
    const { count, next } = await markPurgeable(database, {
      after: this.#after,
      before: new Date(now - retentionMs),
      at: new Date(now),
    })
    meters.purged(count)
    this.#after = next ?? ''
    if (next === null) this.#restUntil = now + HOUR
    return count > 0 || next !== null
  }
}

class BlobSweep implements Ticking {
  readonly #options: HousekeepingOptions
  #round: { after: string; before: Date; inUse: readonly string[] } | null = null

  constructor(options: HousekeepingOptions) {
    this.#options = options
  }

  async tick(): Promise<boolean> {
    const { database, clock, meters } = this.#options
    this.#round ??= {
      after: '',
      before: new Date(clock.now() - NAMED_WITHIN_MS),
      inUse: await listBundlesInUse(database),
    }
    const { count, next } = await sweepBlobs(database, this.#round)
    meters.swept(count)
    this.#round = next === null ? null : { ...this.#round, after: next }
    return next !== null
  }
}
