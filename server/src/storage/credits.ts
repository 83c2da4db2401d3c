/**
 * Owns: grants, in what order they are used up, and how they end.
 * Invariants: 6 (an account's totals are what its grants have left, plus what is spent, at every commit). What is
 * spent is put on grants only when they are about to change, under the lock of the account: between two such moments
 * they are the same, so the order of spending is kept without a write per charge.
 * Leaves to others: reserving and charging (commit), which look at the account's totals and at nothing else.
 */
import { compareGrants, expiredRests, type Grant, restOf, useUp } from '../domain/grants.ts'
import type { Account } from '../domain/money.ts'
import { newId } from '../lib/id.ts'
import { type AccountRow, lockAccount } from './accounts.ts'
import { int8Array, textArray } from './array-parameter.ts'
import type { Db, Transactor, Tx } from './database.ts'

export interface NewGrant {
  id: string
  class: 'included' | 'purchased'
  micro: number
  description: string
  at: Date
  /** When what is left of it is taken back; never when absent. */
  expiresAt?: Date | null
}

/** Books a grant and adds it to the account, which is opened if there is none. */
export async function insertGrant(tx: Tx, organizationId: string, grant: NewGrant): Promise<void> {
  await tx.query(
    'insert into account (organization_id, cycle_start) values ($1, $2) on conflict (organization_id, stripe) do nothing',
    [organizationId, grant.at],
  )
  await settleGrants(tx, organizationId)
  const isIncluded = grant.class === 'included'
  await tx.query(
    `insert into credit_grant (id, organization_id, class, micro, expires_at) values ($1, $2, $3, $4, $5)`,
    [grant.id, organizationId, grant.class, grant.micro, grant.expiresAt ?? null],
  )
  await tx.query(
    `insert into ledger (id, organization_id, kind, class, micro, description, at)
      values ($1, $2, 'grant', $3, $4, $5, $6)`,
    [grant.id, organizationId, grant.class, grant.micro, grant.description, grant.at],
  )
  await tx.query(
    `update account set included_micro = included_micro + $2, purchased_micro = purchased_micro + $3
      where organization_id = $1 and stripe = 0`,
    [organizationId, isIncluded ? grant.micro : 0, isIncluded ? 0 : grant.micro],
  )
}

/** Organisations with a grant that has ended by `at` and is not used up. */
export async function listExpiring(db: Db, at: Date): Promise<string[]> {
  const rows = await db.query<{ id: string }>(
    `select distinct organization_id as id from credit_grant
      where expires_at <= $1 and used_micro + expired_micro < micro order by id`,
    [at],
  )
  return rows.map(({ id }) => id)
}

/** Takes back what is left, and not reserved, of grants that have ended; the micro-credits taken. */
export async function expireGrants(db: Transactor, organizationId: string, at: Date): Promise<number> {
  return db.inTransaction(async (tx) => {
    const { account, grants } = await settleGrants(tx, organizationId)
    const { reservedMicro } = account
    let taken = 0
    for (const { grant, micro } of expiredRests(grants, { reservedMicro, at: at.getTime() })) {
      await takeBack(tx, organizationId, { grant, micro, at })
      taken += micro
    }
    return taken
  })
}

async function takeBack(
  tx: Tx,
  organizationId: string,
  { grant, micro, at }: { grant: Grant; micro: number; at: Date },
): Promise<void> {
  const isIncluded = grant.class === 'included'
  await tx.query('update credit_grant set expired_micro = expired_micro + $2 where id = $1', [
    grant.id,
    micro,
  ])
  await tx.query(
    `insert into ledger (id, organization_id, kind, class, micro, grant_id, description, at)
      values ($1, $2, 'expire', $3, $4, $5, $6, $7)`,
    [newId('txn', at.getTime()), organizationId, grant.class, micro, grant.id, `Expired: ${grant.id}`, at],
  )
  await tx.query(
    `update account set included_micro = included_micro - $2, purchased_micro = purchased_micro - $3
      where organization_id = $1 and stripe = 0`,
    [organizationId, isIncluded ? micro : 0, isIncluded ? 0 : micro],
  )
}

/** Locks the account and puts on its grants all that was spent. The grants are those with a rest, in their order. */
async function settleGrants(
  tx: Tx,
  organizationId: string,
): Promise<{ account: Account; grants: readonly Grant[] }> {
  const account = await lockAccount(tx, organizationId)
  if (account === undefined) throw new Error(`${organizationId} has no account`)
  const before = await listComplete(tx, organizationId, account)
  const grants = useUp(before, account.spentMicro - account.allocatedMicro)
  const used = grants.filter((grant, i) => grant !== before[i])
  if (used.length > 0) {
    await tx.query(
      `update credit_grant set used_micro = t.used_micro from unnest($1::text[], $2::int8[]) as t (id, used_micro)
        where credit_grant.id = t.id`,
      [textArray(used.map(({ id }) => id)), int8Array(used.map(({ usedMicro }) => usedMicro))],
    )
    await tx.query(
      'update account set allocated_micro = spent_micro where organization_id = $1 and stripe = 0',
      [organizationId],
    )
  }
  return { account, grants: grants.filter((grant) => restOf(grant) > 0) }
}

/** A release before this one writes grants to the ledger only: what is missing here is taken from there. */
async function listComplete(tx: Tx, organizationId: string, account: AccountRow): Promise<Grant[]> {
  const grants = await listLiveGrants(tx, organizationId)
  const rest = grants.reduce((sum, grant) => sum + restOf(grant), 0)
  if (rest === account.includedMicro + account.purchasedMicro - account.allocatedMicro) return grants
  await tx.query(
    `insert into credit_grant (id, organization_id, class, micro)
      select id, organization_id, class, micro from ledger where organization_id = $1 and kind = 'grant'
      on conflict do nothing`,
    [organizationId],
  )
  return listLiveGrants(tx, organizationId)
}

/** Grants with a rest, in the order in which they are used up. */
export async function listLiveGrants(db: Db, organizationId: string): Promise<Grant[]> {
  const rows = await db.query<{
    id: string
    class: Grant['class']
    micro: number
    used_micro: number
    expired_micro: number
    expires_at: Date | null
  }>(
    `select id, class, micro, used_micro, expired_micro, expires_at from credit_grant
      where organization_id = $1 and stripe = 0 and used_micro + expired_micro < micro`,
    [organizationId],
  )
  return rows
    .map((row) => ({
      id: row.id,
      class: row.class,
      micro: row.micro,
      usedMicro: row.used_micro,
      expiredMicro: row.expired_micro,
      expiresAt: row.expires_at?.getTime() ?? null,
    }))
    .sort(compareGrants)
}
