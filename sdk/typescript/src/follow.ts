import { isFinalEvent, type RunEvent } from './events.ts'
import type { Run } from './types.ts'

/** How often a quiet run is asked for new events. */
const POLL_MS = 1_000

export interface EventSource {
  /** All events there are, from the one after this `seq`. */
  eventsAfter(seq: number): AsyncIterable<RunEvent>
  run(): Promise<Run>
  pause(ms: number): Promise<void>
}

/** A run's events as they happen, until the final one. */
export async function* followEvents(
  source: EventSource,
  after: number,
): AsyncGenerator<RunEvent, void, undefined> {
  let seen = after
  for (;;) {
    for await (const event of source.eventsAfter(seen)) {
      seen = event.seq
      yield event
      if (isFinalEvent(event)) return
    }
    // A reader that starts behind the final event would wait for ever.
    if (seen === after && (await isOver(source, seen))) return
    await source.pause(POLL_MS)
  }
}

async function isOver(source: EventSource, seen: number): Promise<boolean> {
  const run = await source.run()
  return (
    seen >= run.lastSeq &&
    (run.status === 'succeeded' || run.status === 'failed' || run.status === 'canceled')
  )
}
