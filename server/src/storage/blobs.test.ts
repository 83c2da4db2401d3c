import { randomBytes } from 'node:crypto'
import { afterAll, expect, test } from 'vitest'
import { provideTestDatabase } from '../../test/harness/postgres.ts'
import { sha256 } from '../lib/hash.ts'
import { findBlob, getBlob, putBlob, readBlobStream } from './blobs.ts'
import { openDatabase } from './database.ts'

const database = await openDatabase(await provideTestDatabase(), {
  maxReaders: 4,
  statementTimeoutMs: 10_000,
})
afterAll(() => database.close())

const at = new Date('2026-11-20T10:00:00Z')
const text = { mediaType: 'text/plain', at }

test('a blob is found under the hash of its content', async () => {
  const blob = await putBlob(database, 'Grüße', text)

  expect(blob).toEqual({ hash: sha256('Grüße'), bytes: 7, mediaType: 'text/plain', createdAt: at })
  expect(await findBlob(database, blob.hash)).toEqual(blob)
  expect((await getBlob(database, blob.hash)).toString()).toBe('Grüße')
})

test.each([0, 1, 262_143, 262_144, 262_145, 1_000_000])(
  'a blob of %i bytes comes back whole',
  async (size) => {
    const content = randomBytes(size)
    const { hash } = await putBlob(database, content, { mediaType: 'application/octet-stream', at })

    const pieces: Buffer[] = []
    for await (const piece of readBlobStream(database, hash)) pieces.push(piece)

    expect(Buffer.concat(pieces).equals(content)).toBe(true)
    expect(pieces.every((piece) => piece.byteLength <= 262_144)).toBe(true)
  },
)

test('the same content is stored once, also by many at a time, and a later put renews it', async () => {
  const content = randomBytes(600_000)
  const later = new Date('2026-11-21T10:00:00Z')

  await Promise.all(Array.from({ length: 8 }, () => putBlob(database, content, text)))
  await putBlob(database, content, { mediaType: 'image/png', at: later })
  const { hash } = await putBlob(database, content, text)

  expect(await findBlob(database, hash)).toMatchObject({ mediaType: 'text/plain', createdAt: later })
  expect(await database.query('select n from blob_chunk where hash = $1', [hash])).toHaveLength(3)
})

test('a blob that does not exist is not found', async () => {
  const hash = sha256('never stored')

  expect(await findBlob(database, hash)).toBeUndefined()
  await expect(getBlob(database, hash)).rejects.toMatchObject({ code: 'RESOURCE_NOT_FOUND' })
})
