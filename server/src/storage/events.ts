import type { Envelope } from '../domain/event.ts'
import type { RunId } from '../domain/facts.ts'
import { getBlob } from './blobs.ts'
import type { Db } from './database.ts'

interface PackRow {
  events: string | null
  blob_hash: string | null
}

/** A run's events behind `after`, oldest first, at most `limit`. */
export async function listRunEvents(
  db: Db,
  runId: RunId,
  { after, limit }: { after: number; limit: number },
): Promise<Envelope[]> {
  // A pack holds at least one event, so that `limit` packs are enough.
  const packs = await db.query<PackRow>(
    {
      name: 'list_run_events',
      text: `select events, blob_hash from run_event where run_id = $1 and last_seq > $2 order by first_seq limit $3`,
    },
    [runId, after, limit],
  )
  const events: Envelope[] = []
  for (const pack of packs) {
    if (events.length >= limit) break
    events.push(...(await unpack(db, pack)).filter(({ seq }) => seq > after))
  }
  return events.slice(0, limit)
}

async function unpack(db: Db, { events, blob_hash: hash }: PackRow): Promise<Envelope[]> {
  const lines = events ?? (hash === null ? '' : (await getBlob(db, hash)).toString('utf8'))
  return lines
    .split('\n')
    .filter((line) => line !== '')
    .map((line): Envelope => JSON.parse(line))
}
