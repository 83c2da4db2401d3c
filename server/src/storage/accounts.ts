import type { Account } from '../domain/money.ts'
import type { Db, Tx } from './database.ts'

/** An account with the start of its first billing cycle. */
export interface AccountRow extends Account {
  /** Of what is spent, how much stands on grants. */
  allocatedMicro: number
  cycleStart: Date
}

const SELECT = `select included_micro as "includedMicro", purchased_micro as "purchasedMicro",
    reserved_micro as "reservedMicro", spent_micro as "spentMicro", allocated_micro as "allocatedMicro",
    cycle_start as "cycleStart"
  from account where organization_id = $1 and stripe = 0`

export async function findAccount(db: Db, organizationId: string): Promise<AccountRow | undefined> {
  const [row] = await db.query<AccountRow>({ name: 'find_account', text: SELECT }, [organizationId])
  return row
}

/**
 * The account, locked, which makes every reservation of the organisation wait: nothing slow may follow in the
 * transaction, and a process that falls silent within it is thrown out.
 */
export async function lockAccount(tx: Tx, organizationId: string): Promise<AccountRow | undefined> {
  await tx.query("set local idle_in_transaction_session_timeout = '3s'")
  const [row] = await tx.query<AccountRow>(`${SELECT} for no key update`, [organizationId])
  return row
}
