/**
 * Usage that came when its run could no longer be told of it: the run had ended, or another worker held it. It is
 * noted first, once per step, and booked when the run is final (which may be at once), exactly once, as a ledger entry
 * of its own. An account is never charged more than it has: a difference is ours.
 */
import type { RunFacts, RunId } from '../domain/facts.ts'
import { isFinal } from '../domain/lifecycle.ts'
import { availableMicro, lateMicro, priceTokens, type TokenUsage } from '../domain/money.ts'
import { costSoFar, type Run } from '../domain/run.ts'
import { newId } from '../lib/id.ts'
import { lockAccount } from './accounts.ts'
import type { Db, Transactor, Tx } from './database.ts'
import { findHeldRun } from './runs.ts'

export interface LateUsage {
  step: number
  /** `provider/id` */
  model: string
  usage: TokenUsage
}

/** Notes it, unless that was done before or the run costs nothing. */
export async function insertLateUsage(
  db: Db,
  { id, organizationId, tenantId, prices }: RunFacts,
  { step, model, usage, at }: LateUsage & { at: Date },
): Promise<void> {
  if (prices === null) return
  await db.query(
    `insert into late_usage (run_id, step, organization_id, tenant_id, model, input_tokens, output_tokens, cached_tokens,
        cost_micro, at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict do nothing`,
    [
      id,
      step,
      organizationId,
      tenantId,
      model,
      usage.inputTokens,
      usage.outputTokens,
      usage.cachedTokens,
      priceTokens(prices, model, usage).micro,
      at,
    ],
  )
}

/** Final runs with usage that is noted and not booked. */
export async function listUnbooked(db: Db, limit: number): Promise<RunId[]> {
  const rows = await db.query<{ id: RunId }>(
    `select distinct run.id from late_usage join run on run.id = late_usage.run_id
      where late_usage.entry_id is null and run.state in ('completed', 'failed', 'canceled') order by run.id limit $1`,
    [limit],
  )
  return rows.map(({ id }) => id)
}

interface OpenUsage {
  step: number
  model: string
  tokens: number
  cost_micro: number
}

/** Books what is noted of a run, if it is final; how many entries that made. */
export async function bookLateUsage(db: Transactor, runId: RunId, at: Date): Promise<number> {
  const run = (await findHeldRun(db, runId))?.run
  if (run === undefined || !isFinal(run.state)) return 0
  return db.inTransaction(async (tx) => {
    const account = await lockAccount(tx, run.facts.organizationId)
    if (account === undefined) return 0
    // Whoever books holds the account's lock, so this sees all that was booked before.
    const open = await tx.query<OpenUsage>(
      `select step, model, input_tokens + output_tokens as tokens, cost_micro from late_usage
        where run_id = $1 and entry_id is null order by step`,
      [runId],
    )
    const [booked] = await tx.query<{ micro: number }>(
      'select coalesce(sum(cost_micro), 0)::int8 as micro from late_usage where run_id = $1 and entry_id is not null',
      [runId],
    )
    let settled = costSoFar(run, run.completedAt ?? at.getTime()) + (booked?.micro ?? 0)
    let available = Math.max(0, availableMicro(account))
    for (const usage of open) {
      const micro = Math.min(lateMicro(settled, usage.cost_micro), available)
      await book(tx, run, { ...usage, micro, at })
      settled += usage.cost_micro
      available -= micro
    }
    return open.length
  })
}

async function book(
  tx: Tx,
  { facts }: Run,
  { step, model, tokens, micro, at }: OpenUsage & { micro: number; at: Date },
): Promise<void> {
  const { id: runId, organizationId, tenantId } = facts
  const entryId = newId('txn', at.getTime())
  const description = `Step ${step}, known after the end of the run: ${tokens} tokens of ${model}`
  await tx.query('update late_usage set entry_id = $3 where run_id = $1 and step = $2', [
    runId,
    step,
    entryId,
  ])
  await tx.query(
    `insert into ledger (id, organization_id, kind, micro, run_id, tenant_id, description, at)
      values ($1, $2, 'late', $3, $4, $5, $6, $7)`,
    [entryId, organizationId, micro, runId, tenantId, description, at],
  )
  await tx.query(
    'update account set spent_micro = spent_micro + $2 where organization_id = $1 and stripe = 0',
    [organizationId, micro],
  )
}
