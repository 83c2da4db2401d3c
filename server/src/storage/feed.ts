/**
 * The log of an organisation in commit order. A row is shown once no transaction that began before its own is still
 * under way, so that nothing can appear behind a reader's back; until then the feed waits, however many others commit.
 */
import { GateError } from '../domain/error.ts'
import { getBlob } from './blobs.ts'
import type { Db } from './database.ts'

export interface FeedScope {
  organizationId: string
  mode: string
  /** A tenant key sees only its tenant's events; `null` sees all of the organisation. */
  tenantId: string | null
}

export interface FeedAsk {
  /** Reads on behind this cursor; `null` begins with the oldest event that is kept. */
  after: string | null
  limit: number
  /** The log's epoch (`installation.epoch`). Rows of earlier ones are all committed. */
  epoch: number
}

export interface FeedPage {
  /** Envelopes as they were stored, one JSON text each. */
  lines: string[]
  /** Opaque; behind it nothing that this page and those before it left out will ever appear. */
  nextCursor: string
}

/** A place in commit order. `seq` is the last event of the run that was read; xids are text, as they may pass 2^53. */
interface Place {
  epoch: number
  xid: string
  runId: string
  seq: number
}

const START: Place = { epoch: 0, xid: '0', runId: '', seq: 0 }

interface PackRow {
  epoch: number
  xid: string
  run_id: string
  first_seq: number
  last_seq: number
  events: string | null
  blob_hash: string | null
}

/** At most `limit` events in commit order. Throws INVALID_VALUE for a cursor that is not one of ours. */
export async function readFeed(db: Db, scope: FeedScope, ask: FeedAsk): Promise<FeedPage> {
  const { limit, epoch } = ask
  const after = ask.after === null ? START : parseCursor(ask.after)
  // Asked first: what is below this horizon has ended, so the next statement sees all of it.
  const horizon = await readHorizon(db)
  const packs = await listPacks(db, scope, { after, horizon, epoch, limit })
  const lines: string[] = []
  let place = after
  for (const pack of packs) {
    const room = limit - lines.length
    if (room === 0) return { lines, nextCursor: formCursor(place) }
    const isSamePack = pack.run_id === after.runId && pack.xid === after.xid && pack.epoch === after.epoch
    const skipped = isSamePack ? Math.max(0, after.seq + 1 - pack.first_seq) : 0
    const taken = (await linesOf(db, pack)).slice(skipped, skipped + room)
    lines.push(...taken)
    const { epoch: ofPack, xid, run_id: runId } = pack
    place = { epoch: ofPack, xid, runId, seq: pack.first_seq + skipped + taken.length - 1 }
  }
  if (packs.length < limit && lines.length < limit) place = { epoch, xid: horizon, runId: '', seq: 0 }
  return { lines, nextCursor: formCursor(place) }
}

async function readHorizon(db: Db): Promise<string> {
  const [row] = await db.query<{ xmin: string }>({
    name: 'read_feed_horizon',
    text: 'select pg_snapshot_xmin(pg_current_snapshot())::text as xmin',
  })
  return row?.xmin ?? '0'
}

/** A pack holds at least one event, so `limit` packs are enough. A transaction writes one pack of a run at most. */
function listPacks(
  db: Db,
  { organizationId, mode, tenantId }: FeedScope,
  { after, horizon, epoch, limit }: { after: Place; horizon: string; epoch: number; limit: number },
): Promise<PackRow[]> {
  return db.query<PackRow>(
    {
      name: 'list_feed_packs',
      text: `
        select event.epoch, event.xid::text as xid, event.run_id, first_seq, event.last_seq, events, blob_hash
        from run_event as event join run on run.id = event.run_id
        where run.organization_id = $1 and run.mode = $2 and ($3::text is null or run.tenant_id = $3)
          and (event.epoch, event.xid) >= ($4, $5::xid8)
          and (event.epoch, event.xid, event.run_id, event.last_seq) > ($4, $5::xid8, $6, $7)
          and (event.epoch < $8 or event.epoch = $8 and event.xid < $9::xid8)
        order by event.epoch, event.xid, event.run_id limit $10`,
    },
    [organizationId, mode, tenantId, after.epoch, after.xid, after.runId, after.seq, epoch, horizon, limit],
  )
}

async function linesOf(db: Db, { events, blob_hash: hash }: PackRow): Promise<string[]> {
  const text = events ?? (hash === null ? '' : (await getBlob(db, hash)).toString('utf8'))
  return text.split('\n')
}

const formCursor = ({ epoch, xid, runId, seq }: Place): string =>
  Buffer.from(`${epoch} ${xid} ${seq} ${runId}`).toString('base64url')

function parseCursor(cursor: string): Place {
  const text = Buffer.from(cursor, 'base64url').toString('utf8')
  const [, epoch, xid, seq, runId] = /^(\d{1,9}) (\d{1,19}) (\d{1,9}) ([a-z0-9_]{0,40})$/.exec(text) ?? []
  if (epoch === undefined || xid === undefined || seq === undefined || runId === undefined) {
    throw new GateError('INVALID_VALUE', 'The cursor is not one that this feed gave out.', {
      details: { errors: [{ field: 'after', message: 'is not a cursor' }] },
    })
  }
  return { epoch: Number(epoch), xid, seq: Number(seq), runId }
}
