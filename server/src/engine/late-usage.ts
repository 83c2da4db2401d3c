import type { RunFacts } from '../domain/facts.ts'
import { type Backoff, backoffMs } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import type { Database } from '../storage/database.ts'
import { DatabaseError } from '../storage/database-error.ts'
import { bookLateUsage, insertLateUsage, type LateUsage } from '../storage/late-usage.ts'

/** Takes what a model call used that its run can no longer be told. */
export type NoteLate = (facts: RunFacts, usages: readonly LateUsage[]) => Promise<void>

export interface LateUsageOptions {
  database: Database
  clock: Clock
  log: { error(facts: object, sentence: string): void }
}

const TRIES = 6
const WAITS: Backoff = { firstMs: 50, factor: 4, maxMs: 5_000 }

/** Notes late usage, and books it where the run is final; housekeeping books the rest. Never rejects. */
export function lateUsageNotes({ database, clock, log }: LateUsageOptions): NoteLate {
  const note = async (facts: RunFacts, usages: readonly LateUsage[]): Promise<void> => {
    const at = new Date(clock.now())
    for (const usage of usages) await insertLateUsage(database, facts, { ...usage, at })
    await bookLateUsage(database, facts.id, at)
  }
  return async (facts, usages) => {
    if (usages.length === 0 || facts.prices === null) return
    for (let attempt = 1; ; attempt++) {
      try {
        await note(facts, usages)
        return
      } catch (error) {
        if (!(error instanceof DatabaseError && error.isTransient) || attempt === TRIES) {
          log.error({ runId: facts.id, usages, err: error }, 'Usage that came late was not written.')
          return
        }
        await new Promise<void>((resolve) => {
          clock.after(backoffMs(WAITS, attempt, 0.5), resolve)
        })
      }
    }
  }
}
