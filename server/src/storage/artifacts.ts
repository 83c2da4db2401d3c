import type { RunId } from '../domain/facts.ts'
import type { Db } from './database.ts'
import { type PageAsk, type PageOf, readPage } from './page.ts'
import { Where } from './where.ts'

export interface ArtifactRow {
  name: string
  /** The blob it is stored as. */
  hash: string
  bytes: number
  mediaType: string
  createdAt: Date
}

const COLUMNS = 'name, hash, bytes, media_type as "mediaType", created_at as "createdAt"'

/** Newest first. */
export const listArtifacts = (db: Db, runId: RunId, ask: PageAsk): Promise<PageOf<ArtifactRow>> =>
  readPage<ArtifactRow>(
    db,
    {
      select: COLUMNS,
      from: 'artifact',
      where: new Where().and('run_id = ?', runId),
      at: 'created_at',
      id: 'name',
    },
    ask,
  )

export async function findArtifact(db: Db, runId: RunId, name: string): Promise<ArtifactRow | undefined> {
  const [row] = await db.query<ArtifactRow>(
    `select ${COLUMNS} from artifact where run_id = $1 and name = $2`,
    [runId, name],
  )
  return row
}

/** Names a blob as a run's artifact; the same name again replaces it. */
export async function putArtifact(db: Db, runId: RunId, artifact: ArtifactRow): Promise<void> {
  await db.query(
    `insert into artifact (run_id, name, hash, bytes, media_type, created_at) values ($1, $2, $3, $4, $5, $6)
      on conflict (run_id, name) do update set hash = excluded.hash, bytes = excluded.bytes,
        media_type = excluded.media_type, created_at = excluded.created_at`,
    [runId, artifact.name, artifact.hash, artifact.bytes, artifact.mediaType, artifact.createdAt],
  )
}
