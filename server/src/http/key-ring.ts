import { GateError } from '../domain/error.ts'
import { BoundedMap } from '../lib/bounded-map.ts'
import type { Clock } from '../lib/clock.ts'
import type { Db } from '../storage/database.ts'
import { findKeyByHash, type KeyRow, touchKey } from '../storage/keys.ts'
import { hashKey, parseKeyFormat } from '../vault/keys.ts'
import type { Caller, Log } from './gateway.ts'

/** A revoked key ends within this time, in every process. */
const TRUST_MS = 5_000
const TOUCH_MS = 60_000
const MOST_KEYS = 10_000

interface Known {
  row: KeyRow
  /** On the monotonic clock. */
  readAt: number
}

/** Turns the `Authorization` header into a caller, and remembers keys for a few seconds. */
export class KeyRing {
  readonly #db: Db
  readonly #clock: Clock
  readonly #log: Log
  /** By hash. */
  readonly #known = new BoundedMap<string, Known>(MOST_KEYS)
  readonly #touches = new Set<Promise<void>>()

  constructor({ db, clock, log }: { db: Db; clock: Clock; log: Log }) {
    this.#db = db
    this.#clock = clock
    this.#log = log
  }

  /** Throws `GateError` MISSING_API_KEY, INVALID_API_KEY_FORMAT, INVALID_API_KEY or EXPIRED_API_KEY. */
  async identify(authorization: string | undefined): Promise<Caller> {
    const key = bearerToken(authorization)
    parseKeyFormat(key)
    const row = await this.#find(hashKey(key))
    if (row === undefined || row.revokedAt !== null) {
      throw new GateError('INVALID_API_KEY', 'This API key does not exist or was revoked.')
    }
    if (row.expiresAt !== null && row.expiresAt.getTime() <= this.#clock.now()) {
      throw new GateError('EXPIRED_API_KEY', `This API key expired at ${row.expiresAt.toISOString()}.`)
    }
    this.#noteUse(row)
    const { id: keyId, organizationId, mode, tenantId, scopes } = row
    return { keyId, organizationId, mode, tenantId, scopes }
  }

  /** Looks the key up again when it is next presented here. */
  forget(keyId: string): void {
    for (const [hash, { row }] of this.#known) if (row.id === keyId) this.#known.delete(hash)
  }

  /** Waits for the notes about used keys. */
  async settle(): Promise<void> {
    await Promise.all(this.#touches)
  }

  async #find(hash: string): Promise<KeyRow | undefined> {
    const known = this.#known.get(hash)
    if (known !== undefined && this.#clock.monotonic() - known.readAt < TRUST_MS) return known.row
    const readAt = this.#clock.monotonic()
    const row = await findKeyByHash(this.#db, hash)
    if (row === undefined) this.#known.delete(hash)
    else this.#known.set(hash, { row, readAt })
    return row
  }

  #noteUse(row: KeyRow): void {
    const at = new Date(this.#clock.now())
    if (row.lastUsedAt !== null && at.getTime() - row.lastUsedAt.getTime() < TOUCH_MS) return
    row.lastUsedAt = at
    const touch = touchKey(this.#db, row.id, { at, everyMs: TOUCH_MS })
      .catch((error: unknown) =>
        this.#log.warn({ err: error, keyId: row.id }, 'The use of a key was not noted.'),
      )
      .finally(() => this.#touches.delete(touch))
    this.#touches.add(touch)
  }
}

function bearerToken(authorization: string | undefined): string {
  if (authorization === undefined || authorization.trim() === '') {
    throw new GateError('MISSING_API_KEY', 'This needs an API key.', {
      hint: 'Send `Authorization: Bearer KEY`.',
    })
  }
  const [, token] = /^bearer +(\S+)\s*$/i.exec(authorization) ?? []
  if (token === undefined) {
    throw new GateError('INVALID_API_KEY_FORMAT', 'The Authorization header does not hold a bearer key.', {
      hint: 'Send `Authorization: Bearer KEY`.',
    })
  }
  return token
}
