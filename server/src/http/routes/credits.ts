import { presentBalance, presentTransaction } from '../../contract/present-account.ts'
import { GateError } from '../../domain/error.ts'
import { type LedgerKind, MICRO_PER_CREDIT } from '../../domain/money.ts'
import { newId } from '../../lib/id.ts'
import { findBalance } from '../../storage/balance.ts'
import { insertGrant } from '../../storage/credits.ts'
import { type LedgerEntry, listLedger } from '../../storage/ledger.ts'
import type { Totals } from '../../storage/totals.ts'
import type { Gateway } from '../gateway.ts'
import type { Handlers } from '../handler.ts'
import { once } from '../once.ts'
import { cappedTotal } from '../paging.ts'
import { Problems } from '../problems.ts'

/** Which ledger entries each type of transaction is; reservations are no transactions. */
const ENTRIES = {
  deduction: { kinds: ['deduct', 'late'] },
  refund: { kinds: ['refund'] },
  purchase: { kinds: ['grant', 'expire'], class: 'purchased' },
  grant: { kinds: ['grant', 'expire'], class: 'included' },
} as const

const ALL_KINDS: readonly LedgerKind[] = ['deduct', 'late', 'refund', 'grant', 'expire']

/** Test mode costs nothing: it has no account, and its ledger is empty. */
export function creditRoutes(
  { db }: Gateway,
  totals: Totals,
): Pick<Handlers, 'getCredits' | 'listCreditUsage' | 'grantCredits'> {
  return {
    async getCredits({ caller, at }) {
      const found = caller.mode === 'live' ? await findBalance(db, caller.organizationId) : undefined
      const nothing = { includedMicro: 0, purchasedMicro: 0, reservedMicro: 0, cycleStart: monthStart(at) }
      return { status: 200, body: presentBalance(found ?? nothing, at) }
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
      const { entries, total } = await listLedger(db, filter, { limit, offset, totals })
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
      return once(db, call, async (tx) => {
        const entry: LedgerEntry & { kind: 'grant'; class: 'included' | 'purchased' } = {
          id: newId('txn', at),
          kind: 'grant',
          class: body.type === 'purchase' ? 'purchased' : 'included',
          micro: body.amountCents * MICRO_PER_CREDIT,
          runId: null,
          description: body.reason ?? '',
          expiresAt: endOf(body.expiresAt, at),
          at: new Date(at),
        }
        await insertGrant(tx, caller.organizationId, entry)
        return { answer: { status: 201, body: presentTransaction(entry) }, subjectId: entry.id }
      })
    },
  }
}

function endOf(expiresAt: string | undefined, at: number): Date | null {
  if (expiresAt === undefined) return null
  const problems = new Problems()
  if (Date.parse(expiresAt) <= at) problems.add('/expiresAt', 'has passed')
  problems.throwIfAny()
  return new Date(expiresAt)
}

function monthStart(at: number): Date {
  const day = new Date(at)
  return new Date(Date.UTC(day.getUTCFullYear(), day.getUTCMonth(), 1))
}
