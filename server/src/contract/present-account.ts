import type { Mode, RunId } from '../domain/facts.ts'
import { type Account, creditsCharged, type LedgerKind, MICRO_PER_CREDIT } from '../domain/money.ts'
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

/** Included credits are spent first. */
export function presentBalance(account: Account, cycleStart: Date): Static<typeof CreditBalance> {
  const included = Math.max(0, account.includedMicro - account.spentMicro)
  const purchased = account.purchasedMicro - Math.max(0, account.spentMicro - account.includedMicro)
  return {
    includedCreditsCents: wholeCredits(included),
    purchasedCreditsCents: wholeCredits(purchased),
    totalCreditsCents: wholeCredits(included + purchased),
    reservedCreditsCents: creditsCharged(account.reservedMicro),
    billingCycleStart: toIso(cycleStart.getTime()),
    billingCycleEnd: toIso(monthAfter(cycleStart)),
  }
}

/** The same day of the next month, or its last day. */
function monthAfter(start: Date): number {
  const end = new Date(start)
  end.setUTCMonth(start.getUTCMonth() + 1)
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
  at: Date
}

export function presentTransaction(entry: StoredTransaction): Static<typeof CreditTransaction> {
  const type = transactionType(entry)
  const credits = creditsCharged(Math.abs(entry.micro))
  return {
    id: entry.id,
    type,
    amountCents: type === 'deduction' ? -credits : credits,
    runId: entry.runId,
    description: entry.description,
    createdAt: toIso(entry.at.getTime()),
  }
}

function transactionType({
  kind,
  class: given,
}: StoredTransaction): Static<typeof CreditTransaction>['type'] {
  if (kind === 'refund') return 'refund'
  if (kind === 'grant') return given === 'purchased' ? 'purchase' : 'grant'
  return 'deduction'
}
