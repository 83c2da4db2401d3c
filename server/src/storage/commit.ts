/**
 * The one write path of runs.
 *
 * Owns: making a batch of decisions durable, and telling what became of each.
 * Invariants: 1, 3, 6 and the caps, by the statement (commit-statement.ts); a row that changed nothing is told why.
 * Leaves to others: what the rows say (domain), gathering batches (engine).
 */
import type { Birth, CommitRow } from './commit-row.ts'
import { statementFor } from './commit-statement.ts'
import type { DedicatedConnection } from './database.ts'

/**
 * `unfenced` rows changed nothing because the run was no longer as it was decided on, because their key is
 * taken, or because the same commit is already there: `classify` tells which.
 */
export type Verdict = 'applied' | 'no_credit' | 'no_capacity' | 'unfenced'

/** Planner settings of the writers' connections: index plans only, held by a test of the plan. */
export const WRITER_SETTINGS = {
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  jit: 'off',
  lock_timeout: '200ms',
  plan_cache_mode: 'force_generic_plan',
}

/** Makes a batch durable and says what became of each row. Throws `DatabaseError`; then nothing was written. */
export async function commitBatch(
  connection: DedicatedConnection,
  epoch: number,
  rows: readonly CommitRow[],
): Promise<Map<string, Verdict>> {
  const { values, ...statement } = statementFor(epoch, rows)
  const answers = await connection.query<{ id: string; verdict: Verdict }>(statement, values)
  return new Map(answers.map(({ id, verdict }) => [id, verdict]))
}

/** Why a row was `unfenced`. */
export type Cause =
  | { cause: 'already_applied' }
  | { cause: 'key_taken'; runId: string; bodyHash: string }
  | { cause: 'moved'; lastSeq: number; claim: string | null }
  | { cause: 'missing' }

export async function classify(connection: DedicatedConnection, row: CommitRow): Promise<Cause> {
  const [twin] = await connection.query(
    {
      name: 'find_commit',
      text: 'select 1 as found from run_event where run_id = $1 and first_seq = $2 and at = $3 and commit_id = $4',
    },
    [row.runId, row.oldSeq + 1, row.at, row.commitId],
  )
  if (twin !== undefined) return { cause: 'already_applied' }
  const taken = row.birth && (await findTakenKey(connection, row.birth))
  if (taken) return { cause: 'key_taken', ...taken }
  const [now] = await connection.query<{ last_seq: number; claim: string | null; is_same: boolean }>(
    { name: 'find_fence', text: 'select last_seq, claim, commit_id = $2 as is_same from run where id = $1' },
    [row.runId, row.commitId],
  )
  if (now?.is_same) return { cause: 'already_applied' }
  return now ? { cause: 'moved', lastSeq: now.last_seq, claim: now.claim } : { cause: 'missing' }
}

async function findTakenKey(
  connection: DedicatedConnection,
  { organizationId, mode, idempotency }: Birth,
): Promise<{ runId: string; bodyHash: string } | undefined> {
  if (idempotency === null) return undefined
  const [row] = await connection.query<{ subject_id: string; body_hash: string }>(
    {
      name: 'find_taken_key',
      text: `select subject_id, body_hash from idempotency_key
        where organization_id = $1 and mode = $2 and tenant_id = $3 and route = $4 and key = $5`,
    },
    [organizationId, mode, idempotency.tenantId, idempotency.route, idempotency.key],
  )
  return row && { runId: row.subject_id, bodyHash: row.body_hash }
}
