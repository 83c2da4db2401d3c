import type { RunId } from '../domain/facts.ts'
import type { LedgerKind } from '../domain/money.ts'
import type { Db, Tx } from './database.ts'
import { COUNT_CAP, Where } from './page.ts'

export interface LedgerEntry {
  id: string
  kind: LedgerKind
  class: 'included' | 'purchased' | null
  micro: number
  runId: RunId | null
  description: string
  at: Date
}

export interface LedgerFilter {
  organizationId: string
  /** A tenant key sees only its tenant's entries. */
  tenantId: string | null
  kinds: readonly LedgerKind[]
  class?: 'included' | 'purchased'
  runId?: string
  from?: Date
  before?: Date
}

/** Newest first, with how many there are (at most `COUNT_CAP` + 1). */
export async function listLedger(
  db: Db,
  filter: LedgerFilter,
  { limit, offset }: { limit: number; offset: number },
): Promise<{ entries: LedgerEntry[]; total: number }> {
  const where = conditions(filter)
  const [counted] = await db.query<{ total: number }>(
    `select count(*)::int as total from (select 1 from ledger where ${where.sql} limit ${COUNT_CAP + 1}) as counted`,
    where.values,
  )
  const entries = await db.query<LedgerEntry>(
    `select id, kind, class, micro, run_id as "runId", description, at from ledger where ${where.sql}
      order by at desc, id desc limit ${where.bind(limit)} offset ${where.bind(offset)}`,
    where.values,
  )
  return { entries, total: counted?.total ?? 0 }
}

function conditions(filter: LedgerFilter): Where {
  const where = new Where()
    .and('organization_id = ?', filter.organizationId)
    .and('kind = any(?)', filter.kinds)
  if (filter.tenantId !== null) where.and('tenant_id = ?', filter.tenantId)
  if (filter.class !== undefined) where.and('class = ?', filter.class)
  if (filter.runId !== undefined) where.and('run_id = ?', filter.runId)
  if (filter.from) where.and('at >= ?', filter.from)
  if (filter.before) where.and('at < ?', filter.before)
  return where
}

/** Books a grant and adds it to the account, which is opened if there is none (invariant 6). */
export async function insertGrant(
  tx: Tx,
  organizationId: string,
  grant: { id: string; class: 'included' | 'purchased'; micro: number; description: string; at: Date },
): Promise<void> {
  const isIncluded = grant.class === 'included'
  await tx.query(
    `insert into account (organization_id, included_micro, purchased_micro, cycle_start) values ($1, $2, $3, $4)
      on conflict (organization_id, stripe) do update set
        included_micro = account.included_micro + excluded.included_micro,
        purchased_micro = account.purchased_micro + excluded.purchased_micro`,
    [organizationId, isIncluded ? grant.micro : 0, isIncluded ? 0 : grant.micro, grant.at],
  )
  await tx.query(
    `insert into ledger (id, organization_id, kind, class, micro, description, at)
      values ($1, $2, 'grant', $3, $4, $5, $6)`,
    [grant.id, organizationId, grant.class, grant.micro, grant.description, grant.at],
  )
}
