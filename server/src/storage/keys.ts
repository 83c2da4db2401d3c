import type { Mode } from '../domain/facts.ts'
import type { Db, Tx } from './database.ts'
import { type PageAsk, type PageOf, readPage } from './page.ts'
import { Where } from './where.ts'

export interface KeyRow {
  id: string
  organizationId: string
  mode: Mode
  tenantId: string | null
  name: string
  /** The beginning of the key. */
  hint: string
  scopes: string[]
  createdAt: Date
  expiresAt: Date | null
  revokedAt: Date | null
  lastUsedAt: Date | null
}

/** Keys that a caller may see: one mode of an organisation, and for a tenant's key only that tenant's. */
export interface KeyScope {
  organizationId: string
  mode: Mode
  tenantId: string | null
}

const COLUMNS = `id, organization_id as "organizationId", mode, tenant_id as "tenantId", name, hint, scopes,
  created_at as "createdAt", expires_at as "expiresAt", revoked_at as "revokedAt", last_used_at as "lastUsedAt"`

/** Also revoked and expired keys: the caller says why a key does not work. */
export async function findKeyByHash(db: Db, hash: string): Promise<KeyRow | undefined> {
  const [row] = await db.query<KeyRow>(
    { name: 'find_key_by_hash', text: `select ${COLUMNS} from api_key where hash = $1` },
    [hash],
  )
  return row
}

export async function findKey(db: Db, scope: KeyScope, id: string): Promise<KeyRow | undefined> {
  const where = visible(scope).and('id = ?', id)
  const [row] = await db.query<KeyRow>(`select ${COLUMNS} from api_key where ${where.sql}`, where.values)
  return row
}

export const listKeys = (db: Db, scope: KeyScope, ask: PageAsk): Promise<PageOf<KeyRow>> =>
  readPage<KeyRow>(
    db,
    { select: COLUMNS, from: 'api_key', where: visible(scope), at: 'created_at', id: 'id' },
    ask,
  )

export async function insertKey(db: Db | Tx, key: KeyRow & { hash: string }): Promise<void> {
  await db.query(
    `insert into api_key (id, organization_id, mode, tenant_id, name, hint, hash, scopes, created_at, expires_at)
      values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
    [
      key.id,
      key.organizationId,
      key.mode,
      key.tenantId,
      key.name,
      key.hint,
      key.hash,
      key.scopes,
      key.createdAt,
      key.expiresAt,
    ],
  )
}

/** Whether there is such a key; revoking it again changes nothing. */
export async function revokeKey(
  db: Db,
  scope: KeyScope,
  { id, at }: { id: string; at: Date },
): Promise<boolean> {
  const where = visible(scope).and('id = ?', id)
  const rows = await db.query(
    `update api_key set revoked_at = coalesce(revoked_at, ${where.bind(at)}) where ${where.sql} returning id`,
    where.values,
  )
  return rows.length > 0
}

/** Notes that a key was used, unless that was noted less than `everyMs` ago. */
export async function touchKey(
  db: Db,
  id: string,
  { at, everyMs }: { at: Date; everyMs: number },
): Promise<void> {
  await db.query(
    `update api_key set last_used_at = $2
      where id = $1 and (last_used_at is null or last_used_at <= $3)`,
    [id, at, new Date(at.getTime() - everyMs)],
  )
}

function visible({ organizationId, mode, tenantId }: KeyScope): Where {
  const where = new Where().and('organization_id = ?', organizationId).and('mode = ?', mode)
  return tenantId === null ? where : where.and('tenant_id = ?', tenantId)
}
