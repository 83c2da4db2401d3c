import { expect, test } from 'vitest'
import { manualClock } from '../../test/harness/manual-clock.ts'
import type { Db } from '../storage/database.ts'
import type { KeyRow } from '../storage/keys.ts'
import { mintKey } from '../vault/keys.ts'
import { KeyRing } from './key-ring.ts'

const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined }

/** A ring over one stored key, and what it asked of the database. */
function ringOf(change: Partial<KeyRow> = {}) {
  const clock = manualClock()
  const row: KeyRow = {
    id: 'key_1',
    organizationId: 'org_1',
    mode: 'live',
    tenantId: null,
    name: '',
    hint: '',
    scopes: ['*'],
    createdAt: new Date(0),
    expiresAt: null,
    revokedAt: null,
    lastUsedAt: null,
    ...change,
  }
  const asked = { reads: 0, touches: 0 }
  const db: Db = {
    async query<Row extends object>(statement: string | { text: string }) {
      const isRead = typeof statement !== 'string'
      asked[isRead ? 'reads' : 'touches'] += 1
      const found: object[] = isRead ? [{ ...row }] : []
      return found as Row[] // the ring asks for nothing else
    },
  }
  const header = `Bearer ${mintKey({ holder: 'organization', mode: 'live' }).reveal()}`
  return { ring: new KeyRing({ db, clock, log: quiet }), clock, row, asked, header }
}

test('a key is read once in five seconds, so that a revoked one ends within that time', async () => {
  const { ring, clock, row, asked, header } = ringOf()
  await ring.identify(header)
  row.revokedAt = new Date(clock.now())
  clock.advance(4_999)
  await ring.identify(header)
  expect(asked.reads).toBe(1)
  clock.advance(1)
  await expect(ring.identify(header)).rejects.toMatchObject({ code: 'INVALID_API_KEY' })
})

test('a key that expires while it is remembered ends on time', async () => {
  const { ring, clock, header } = ringOf({ expiresAt: new Date(manualClock().now() + 1_000) })
  await ring.identify(header)
  clock.advance(1_000)
  await expect(ring.identify(header)).rejects.toMatchObject({ code: 'EXPIRED_API_KEY' })
})

test('the use of a key is noted at most once a minute', async () => {
  const { ring, clock, asked, header } = ringOf({ lastUsedAt: new Date(manualClock().now() - 59_000) })
  await ring.identify(header)
  expect(asked.touches).toBe(0)
  clock.advance(1_000)
  await ring.identify(header)
  await ring.identify(header)
  await ring.settle()
  expect(asked.touches).toBe(1)
})

test.each([undefined, '', '  '])('no Authorization header (%j) is a missing key', async (header) => {
  await expect(ringOf().ring.identify(header)).rejects.toMatchObject({ code: 'MISSING_API_KEY' })
})

test.each(['Basic dTpw', 'Bearer', 'Bearer a b', 'Bearer org_live_short'])('%s is no key', async (header) => {
  await expect(ringOf().ring.identify(header)).rejects.toMatchObject({ code: 'INVALID_API_KEY_FORMAT' })
})
