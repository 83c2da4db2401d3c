import { notFound } from '../domain/error.ts'
import { sha256 } from '../lib/hash.ts'
import { invariant } from '../lib/invariant.ts'
import type { Db, Transactor } from './database.ts'

/** Content under its own name: the same bytes are stored once. */
export interface StoredBlob {
  /** SHA-256 of the content, in lower-case hexadecimal. */
  hash: string
  bytes: number
  mediaType: string
  createdAt: Date
}

const CHUNK_BYTES = 256 * 1024

/**
 * Stores `data` (text as UTF-8) unless it is there; then only its time moves on, so that a sweep of unnamed blobs
 * leaves it to whoever is about to name it. The first media type stays.
 */
export async function putBlob(
  db: Transactor,
  data: Uint8Array | string,
  { mediaType, at }: { mediaType: string; at: Date },
): Promise<StoredBlob> {
  const content = typeof data === 'string' ? Buffer.from(data) : data
  const blob = { hash: sha256(content), bytes: content.byteLength, mediaType, createdAt: at }
  if (content.byteLength <= CHUNK_BYTES) {
    await insertBlob(db, blob, content)
    return blob
  }
  await db.inTransaction(async (tx) => {
    const isNew = await insertBlob(tx, blob, content.subarray(0, CHUNK_BYTES))
    if (!isNew) return
    for (let n = 1; n * CHUNK_BYTES < content.byteLength; n++) {
      await tx.query('insert into blob_chunk (hash, n, data) values ($1, $2, $3)', [
        blob.hash,
        n,
        content.subarray(n * CHUNK_BYTES, (n + 1) * CHUNK_BYTES),
      ])
    }
  })
  return blob
}

/** The row and its first chunk. The row is written even if it is there, which holds off whoever would delete it. */
async function insertBlob(db: Db, blob: StoredBlob, firstChunk: Uint8Array): Promise<boolean> {
  const [row] = await db.query<{ isNew: boolean }>(
    `with stored as (
       insert into blob (hash, bytes, media_type, created_at) values ($1, $2, $3, $4)
       on conflict (hash) do update set created_at = greatest(blob.created_at, excluded.created_at)
       returning xmax = 0 as is_new
     ), chunk as (
       insert into blob_chunk (hash, n, data) select $1, 0, $5 from stored where is_new
     )
     select is_new as "isNew" from stored`,
    [blob.hash, blob.bytes, blob.mediaType, blob.createdAt, firstChunk],
  )
  return row?.isNew ?? false
}

/** What is known of a blob, without its content. */
export async function findBlob(db: Db, hash: string): Promise<StoredBlob | undefined> {
  const [blob] = await db.query<StoredBlob>(
    `select hash, bytes, media_type as "mediaType", created_at as "createdAt" from blob where hash = $1`,
    [hash],
  )
  return blob
}

/** The content in one piece; throws `GateError` RESOURCE_NOT_FOUND. */
export async function getBlob(db: Db, hash: string): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of readBlobStream(db, hash)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** The content in pieces of at most 256 KB, read one at a time; throws `GateError` RESOURCE_NOT_FOUND. */
export async function* readBlobStream(db: Db, hash: string): AsyncGenerator<Buffer> {
  const blob = await findBlob(db, hash)
  if (blob === undefined) throw notFound(`Blob ${hash}`)
  for (let n = 0, read = 0; n === 0 || read < blob.bytes; n++) {
    const [chunk] = await db.query<{ data: Buffer }>(
      'select data from blob_chunk where hash = $1 and n = $2',
      [hash, n],
    )
    invariant(chunk !== undefined, `blob ${hash} has no chunk ${n}`)
    read += chunk.data.byteLength
    yield chunk.data
  }
}
