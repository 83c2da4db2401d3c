import type { Mode, RunId } from '../domain/facts.ts'
import { creditsCharged, type LedgerKind, MICRO_PER_CREDIT } from '../domain/money.ts'
import { toIso } from '../lib/clock.ts'
import type { ApiKey, CreditBalance, CreditTransaction, GitCredential } from './account.ts'
import type { Static } from './schema.ts'

const isoOrNull = (at: Date | null): string | null => at && toIso(at.getTime())

/** An API key as it is stored; times as PostgreSQL gives them. */
export interface StoredKey {
  id: string
  name: string
  mode: Mode
  tenantId: string | null
  hint: string
  scopes: string[]
  createdAt: Date
  expiresAt: Date | null
  lastUsedAt: Date | null
  revokedAt: Date | null
}

export const presentKey = (key: StoredKey): Static<typeof ApiKey> => ({
  id: key.id,
  name: key.name === '' ? null : key.name,
  mode: key.mode,
  tenantId: key.tenantId,
  hint: key.hint,
  scopes: key.scopes,
  createdAt: toIso(key.createdAt.getTime()),
  expiresAt: isoOrNull(key.expiresAt),
  lastUsedAt: isoOrNull(key.lastUsedAt),
  revokedAt: isoOrNull(key.revokedAt),
})

export interface StoredGitCredential {
  id: string
  host: string
  kind: string
  use: 'read' | 'publish'
  username: string | null
  apiBaseUrl: string | null
  createdAt: Date
  lastUsedAt: Date | null
}

export const presentGitCredential = (credential: StoredGitCredential): Static<typeof GitCredential> => ({
  id: credential.id,
  host: credential.host,
  kind: credential.kind,
  use: credential.use,
  username: credential.username,
  apiBaseUrl: credential.apiBaseUrl,
  createdAt: toIso(credential.createdAt.getTime()),
  lastUsedAt: isoOrNull(credential.lastUsedAt),
})

const wholeCredits = (micro: number): number => Math.floor(micro / MICRO_PER_CREDIT)

/** What is left of an account, in micro-credits. */
export interface Balance {
  includedMicro: number
  purchasedMicro: number
  reservedMicro: number
  cycleStart: Date
}

export function presentBalance(balance: Balance, at: number): Static<typeof CreditBalance> {
  const { includedMicro, purchasedMicro, reservedMicro } = balance
  const { start, end } = cycleAt(balance.cycleStart, at)
  return {
    includedCreditsCents: wholeCredits(includedMicro),
    purchasedCreditsCents: wholeCredits(purchasedMicro),
    totalCreditsCents: wholeCredits(includedMicro + purchasedMicro),
    reservedCreditsCents: creditsCharged(reservedMicro),
    billingCycleStart: toIso(start),
    billingCycleEnd: toIso(end),
  }
}

/** The month from `first` on, in steps of a month, that `at` is in. */
function cycleAt(first: Date, at: number): { start: number; end: number } {
  const now = new Date(at)
  const months =
    12 * (now.getUTCFullYear() - first.getUTCFullYear()) + now.getUTCMonth() - first.getUTCMonth()
  const begun = monthsAfter(first, months) <= at ? months : months - 1
  return { start: monthsAfter(first, Math.max(0, begun)), end: monthsAfter(first, Math.max(0, begun) + 1) }
}

/** The same day so many months later, or the last one of that month. */
function monthsAfter(start: Date, months: number): number {
  const end = new Date(start)
  end.setUTCMonth(start.getUTCMonth() + months)
  if (end.getUTCDate() !== start.getUTCDate()) end.setUTCDate(0)
  return end.getTime()
}

export interface StoredTransaction {
  id: string
  kind: LedgerKind
  class: 'included' | 'purchased' | null
  micro: number
  runId: RunId | null
  description: string
  expiresAt: Date | null
  at: Date
}

export function presentTransaction(entry: StoredTransaction): Static<typeof CreditTransaction> {
  const type = transactionType(entry)
  const isLoss = type === 'deduction' || entry.kind === 'expire'
  const credits = creditsCharged(entry.micro)
  return {
    id: entry.id,
    type,
    amountCents: isLoss && credits > 0 ? -credits : credits,
    runId: entry.runId,
    description: entry.description,
    expiresAt: isoOrNull(entry.expiresAt),
    createdAt: toIso(entry.at.getTime()),
  }
}

function transactionType({
  kind,
  class: given,
}: StoredTransaction): Static<typeof CreditTransaction>['type'] {
  if (kind === 'refund') return 'refund'
  if (kind === 'grant' || kind === 'expire') return given === 'purchased' ? 'purchase' : 'grant'
  return 'deduction'
}
