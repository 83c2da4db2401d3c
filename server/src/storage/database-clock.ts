import { type Clock, systemClock } from '../lib/clock.ts'
import type { Db } from './database.ts'

/** Time as PostgreSQL has it, so that all processes on one database agree; ticking needs no query. */
export interface DatabaseClock extends Clock {
  /** Samples the database again; true if its time has moved against ours by more than `STEP_MS`. */
  tick(): Promise<boolean>
}

const SAMPLES = 5

/** A correction larger than this is a clock that was set; a smaller one is noise and drift. */
const STEP_MS = 1_000

/** `now()` holds still over small corrections backwards and follows large ones at once. */
export async function databaseClock(db: Db, local: Clock = systemClock): Promise<DatabaseClock> {
  let offset = await sampleOffset(db, local)
  let latest = 0
  return {
    now() {
      const now = Math.floor(local.monotonic() + offset)
      latest = latest - now > STEP_MS ? now : Math.max(latest, now)
      return latest
    },
    monotonic: () => local.monotonic(),
    after: (ms, wake) => local.after(ms, wake),
    async tick() {
      const sampled = await sampleOffset(db, local)
      const isStep = Math.abs(sampled - offset) > STEP_MS
      offset = sampled
      return isStep
    },
  }
}

/** Database time minus monotonic time in ms, from the sample with the shortest way there and back. */
async function sampleOffset(db: Db, local: Clock): Promise<number> {
  let shortest = Number.POSITIVE_INFINITY
  let offset = 0
  for (let i = 0; i < SAMPLES; i++) {
    const sent = local.monotonic()
    const [row] = await db.query<{ ms: number }>(
      'select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms',
    )
    const received = local.monotonic()
    if (row === undefined || received - sent >= shortest) continue
    shortest = received - sent
    offset = row.ms - (sent + received) / 2
  }
  return offset
}
