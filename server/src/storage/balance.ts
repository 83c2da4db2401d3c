import { restOf, useUp } from '../domain/grants.ts'
import { findAccount } from './accounts.ts'
import { listLiveGrants } from './credits.ts'
import type { Transactor } from './database.ts'

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
