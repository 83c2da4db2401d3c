import type { RunId } from '../domain/facts.ts'
import type { LedgerKind } from '../domain/money.ts'
import type { Db } from './database.ts'
import type { Totals } from './totals.ts'
import { Where } from './where.ts'

export interface LedgerEntry {
  id: string
  kind: LedgerKind
  class: 'included' | 'purchased' | null
  micro: number
  runId: RunId | null
  description: string
  /** Of a grant: when what is left of it is taken back. */
  expiresAt: Date | null
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

/** Newest first, with how many there are (at most `COUNT_CAP` + 1). What is booked stays as it is. */
export async function listLedger(
  db: Db,
  filter: LedgerFilter,
  { limit, offset, totals }: { limit: number; offset: number; totals: Totals },
): Promise<{ entries: LedgerEntry[]; total: number }> {
  const where = conditions(filter)
  const total = await totals.count(db, 'ledger', where)
  const entries = await db.query<LedgerEntry>(
    `select id, kind, class, micro, run_id as "runId", description, at,
       (select expires_at from credit_grant where credit_grant.id = ledger.id) as "expiresAt"
     from ledger where ${where.sql} order by at desc, id desc limit ${where.bind(limit)} offset ${where.bind(offset)}`,
    where.values,
  )
  return { entries, total }
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
