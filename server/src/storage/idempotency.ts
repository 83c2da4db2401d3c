import type { Mode } from '../domain/facts.ts'
import type { Db, Tx } from './database.ts'

/** What a key is unique within. */
export interface KeyPlace {
  organizationId: string
  mode: Mode
  /** Empty for an organisation's key. */
  tenantId: string
  /** Method and path. */
  route: string
  key: string
}

export interface GivenAnswer {
  bodyHash: string
  /** What the request was about: the id of what it made or changed. */
  subjectId: string
  status: number
  /** The body as JSON, without its secrets. */
  answer: string
}

const valuesOf = (place: KeyPlace): string[] => [
  place.organizationId,
  place.mode,
  place.tenantId,
  place.route,
  place.key,
]

/** Takes the key until the end of the transaction; false when a twin of this request holds it. */
export async function tryLockKey(tx: Tx, place: KeyPlace): Promise<boolean> {
  const [row] = await tx.query<{ locked: boolean }>(
    'select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as locked',
    [JSON.stringify(['idempotency', ...valuesOf(place)])],
  )
  return row?.locked ?? false
}

export async function findAnswer(db: Db, place: KeyPlace): Promise<GivenAnswer | undefined> {
  const [row] = await db.query<GivenAnswer>(
    `select body_hash as "bodyHash", subject_id as "subjectId", status, coalesce(answer, 'null') as answer
      from idempotency_key
      where organization_id = $1 and mode = $2 and tenant_id = $3 and route = $4 and key = $5`,
    valuesOf(place),
  )
  return row
}

/** False when the key has an answer already, which stays. */
export async function insertAnswer(
  db: Db,
  place: KeyPlace,
  given: GivenAnswer & { at: Date },
): Promise<boolean> {
  const rows = await db.query(
    `insert into idempotency_key
      (organization_id, mode, tenant_id, route, key, body_hash, subject_id, status, answer, created_at)
      values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict do nothing returning key`,
    [...valuesOf(place), given.bodyHash, given.subjectId, given.status, given.answer, given.at],
  )
  return rows.length > 0
}
