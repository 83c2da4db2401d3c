import { restOf, useUp } from '../domain/grants.ts'
import type { Account } from '../domain/money.ts'
import { listLiveGrants } from './credits.ts'
import type { Db, Transactor } from './database.ts'

/** An account with the start of its first billing cycle. */
export interface AccountRow extends Account {
  /** Of what is spent, how much stands on grants. */
  allocatedMicro: number
  cycleStart: Date
}

export async function findAccount(db: Db, organizationId: string): Promise<AccountRow | undefined> {
  const [row] = await db.query<{
    included_micro: number
    purchased_micro: number
    reserved_micro: number
    spent_micro: number
    allocated_micro: number
    cycle_start: Date
  }>(
    {
      name: 'find_account',
      text: `select included_micro, purchased_micro, reserved_micro, spent_micro, allocated_micro, cycle_start
        from account where organization_id = $1 and stripe = 0`,
    },
    [organizationId],
  )
  return (
    row && {
      includedMicro: row.included_micro,
      purchasedMicro: row.purchased_micro,
      reservedMicro: row.reserved_micro,
      spentMicro: row.spent_micro,
      allocatedMicro: row.allocated_micro,
      cycleStart: row.cycle_start,
    }
  )
}

/** What is left of each class of credits, what is reserved among them, and when the first billing cycle began. */
export interface BalanceRow {
  includedMicro: number
  purchasedMicro: number
  reservedMicro: number
  cycleStart: Date
}

export async function findBalance(db: Transactor, organizationId: string): Promise<BalanceRow | undefined> {
  return db.inTransaction(async (tx) => {
    await tx.query('set transaction isolation level repeatable read, read only')
    const account = await findAccount(tx, organizationId)
    if (account === undefined) return undefined
    const { includedMicro, purchasedMicro, spentMicro, allocatedMicro, reservedMicro, cycleStart } = account
    const live = await listLiveGrants(tx, organizationId)
    const left = useUp(live, spentMicro - allocatedMicro).filter((grant) => grant.class === 'purchased')
    const purchased = left.reduce((sum, grant) => sum + restOf(grant), 0)
    const total = includedMicro + purchasedMicro - spentMicro
    return { includedMicro: total - purchased, purchasedMicro: purchased, reservedMicro, cycleStart }
  })
}
