import { presentBalance, presentTransaction } from '../../contract/present-account.ts'
import { GateError } from '../../domain/error.ts'
import { type LedgerKind, MICRO_PER_CREDIT } from '../../domain/money.ts'
import { newId } from '../../lib/id.ts'
import { findAccount } from '../../storage/accounts.ts'
import { insertGrant, type LedgerEntry, listLedger } from '../../storage/credits.ts'
import type { Gateway } from '../gateway.ts'
import type { Handlers } from '../handler.ts'
import { once } from '../once.ts'
import { cappedTotal } from '../paging.ts'

const NO_CREDITS = { includedMicro: 0, purchasedMicro: 0, reservedMicro: 0, spentMicro: 0 }

/** Which ledger entries each type of transaction is; reservations are no transactions. */
const ENTRIES = {
  deduction: { kinds: ['deduct', 'late'] },
  refund: { kinds: ['refund'] },
  purchase: { kinds: ['grant'], class: 'purchased' },
  grant: { kinds: ['grant'], class: 'included' },
} as const

const ALL_KINDS: readonly LedgerKind[] = ['deduct', 'late', 'refund', 'grant']

/** Test mode costs nothing: it has no account, and its ledger is empty. */
export function creditRoutes({
  db,
}: Gateway): Pick<Handlers, 'getCredits' | 'listCreditUsage' | 'grantCredits'> {
  return {
    async getCredits({ caller, at }) {
      const account = caller.mode === 'live' ? await findAccount(db, caller.organizationId) : undefined
      return {
        status: 200,
        body: presentBalance(account ?? NO_CREDITS, account?.cycleStart ?? monthStart(at)),
      }
    },

    async listCreditUsage({ caller, query }) {
      const { limit = 50, offset = 0, type, runId, createdAfter, createdBefore } = query
      if (caller.mode === 'test') return { status: 200, body: { transactions: [], total: 0, limit, offset } }
      const filter = {
        organizationId: caller.organizationId,
        tenantId: caller.tenantId,
        ...(type === undefined ? { kinds: ALL_KINDS } : ENTRIES[type]),
        ...(runId !== undefined && { runId }),
        ...(createdAfter !== undefined && { from: new Date(createdAfter) }),
        ...(createdBefore !== undefined && { before: new Date(createdBefore) }),
      }
      const { entries, total } = await listLedger(db, filter, { limit, offset })
      return {
        status: 200,
        body: { transactions: entries.map(presentTransaction), ...cappedTotal(total), limit, offset },
      }
    },

    grantCredits(call) {
      const { caller, body, at } = call
      if (caller.mode === 'test') {
        throw new GateError('CONFLICT', 'Test mode costs nothing and has no account.', {
          hint: 'Use a live key.',
        })
      }
      const entry: LedgerEntry & { kind: 'grant'; class: 'included' | 'purchased' } = {
        id: newId('txn', at),
        kind: 'grant',
        class: body.type === 'purchase' ? 'purchased' : 'included',
        micro: body.amountCents * MICRO_PER_CREDIT,
        runId: null,
        description: body.reason ?? '',
        at: new Date(at),
      }
      return once(db, call, async (tx) => {
        await insertGrant(tx, caller.organizationId, entry)
        return { answer: { status: 201, body: presentTransaction(entry) }, subjectId: entry.id }
      })
    },
  }
}

function monthStart(at: number): Date {
  const day = new Date(at)
  return new Date(Date.UTC(day.getUTCFullYear(), day.getUTCMonth(), 1))
}
