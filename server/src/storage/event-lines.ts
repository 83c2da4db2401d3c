import { getBlob } from './blobs.ts'
import type { Db } from './database.ts'

/** One envelope as it was stored, to the byte; undefined when it has been purged. */
export async function findEventLine(db: Db, runId: string, seq: number): Promise<string | undefined> {
  const [pack] = await db.query<{ first_seq: number; events: string | null; blob_hash: string | null }>(
    {
      name: 'find_event_line',
      text: `select first_seq, events, blob_hash from run_event
        where run_id = $1 and first_seq <= $2 and last_seq >= $2`,
    },
    [runId, seq],
  )
  if (pack === undefined) return undefined
  const lines =
    pack.events ?? (pack.blob_hash === null ? '' : (await getBlob(db, pack.blob_hash)).toString('utf8'))
  return lines.split('\n')[seq - pack.first_seq]
}
