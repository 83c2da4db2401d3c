import type { Account } from '../domain/money.ts'
import type { Db } from './database.ts'

/** An account with the start of its billing cycle. */
export interface AccountRow extends Account {
  cycleStart: Date
}

export async function findAccount(db: Db, organizationId: string): Promise<AccountRow | undefined> {
  const [row] = await db.query<{
    included_micro: number
    purchased_micro: number
    reserved_micro: number
    spent_micro: number
    cycle_start: Date
  }>(
    {
      name: 'find_account',
      text: `select included_micro, purchased_micro, reserved_micro, spent_micro, cycle_start
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
      cycleStart: row.cycle_start,
    }
  )
}
