import type { EventData, GateSummary } from '../domain/event.ts'
import type { RunId } from '../domain/facts.ts'
import type { Db } from '../storage/database.ts'
import { listRunEvents } from '../storage/events.ts'

const PAGE = 500

/** What the gates found the last time they ran, as the run's events tell it. */
export async function gatesSoFar(db: Db, runId: RunId): Promise<GateSummary[]> {
  let found: GateSummary[] = []
  for (let after = 0; ; ) {
    const events = await listRunEvents(db, runId, { after, limit: PAGE })
    for (const { type, data } of events) {
      if (type !== 'verification.passed' && type !== 'verification.failed') continue
      // Events are written by `decide` alone, in the shape of their type.
      found = (data as unknown as EventData['verification.passed']).gates
    }
    const last = events.at(-1)
    if (last === undefined || events.length < PAGE) return found
    after = last.seq
  }
}
