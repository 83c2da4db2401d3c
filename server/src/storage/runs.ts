import type { RunFacts, RunId } from '../domain/facts.ts'
import { unpackRun } from '../domain/fold.ts'
import type { RunState, StatusReason } from '../domain/lifecycle.ts'
import type { Run } from '../domain/run.ts'
import type { Db } from './database.ts'

/** The columns that `runFromRow` reads, over `run`, `run_body` and `run_outcome` as in `RUN_TABLES`. */
export const RUN_COLUMNS =
  'run.id, run.state, run.status_reason, run.last_seq, run.fold, run_body.facts, run_outcome.outcome'

export const RUN_TABLES =
  'run join run_body on run_body.run_id = run.id left join run_outcome on run_outcome.run_id = run.id'

export interface RunRow {
  id: RunId
  state: RunState
  status_reason: StatusReason
  last_seq: number
  fold: string
  facts: string
  outcome: string | null
}

export function runFromRow(row: RunRow): Run {
  const facts: RunFacts = JSON.parse(row.facts)
  const { state, fold, outcome } = row
  return unpackRun(facts, { state, statusReason: row.status_reason, lastSeq: row.last_seq, fold, outcome })
}

export interface Holding {
  claim: string | null
  workerId: string | null
  handedBack: boolean
}

/** A run with who holds it, for the mailbox. */
export async function findHeldRun(db: Db, id: RunId): Promise<{ run: Run; holding: Holding } | undefined> {
  const [row] = await db.query<
    RunRow & { claim: string | null; worker_id: string | null; handed_back: boolean }
  >(
    {
      name: 'find_held_run',
      text: `select ${RUN_COLUMNS}, run.claim, run.worker_id, run.handed_back from ${RUN_TABLES} where run.id = $1`,
    },
    [id],
  )
  if (row === undefined) return undefined
  const holding = { claim: row.claim, workerId: row.worker_id, handedBack: row.handed_back }
  return { run: runFromRow(row), holding }
}

/** Runs of work orders that are not final: what their workspaces are kept for. */
export async function listOpenOrderRuns(db: Db): Promise<RunId[]> {
  const rows = await db.query<{ id: RunId }>(
    `select id from run where work_order_id is not null
      and state in ('queued', 'running', 'tool_required', 'waiting_approval')`,
  )
  return rows.map(({ id }) => id)
}

export interface RunScope {
  organizationId: string
  mode: string
  /** A tenant key sees only its tenant's runs; `null` sees all of the organisation. */
  tenantId: string | null
  id: string
}

/** A run as a caller may see it; another organisation's, tenant's or mode's is not found (invariant 9). */
export async function findRun(db: Db, scope: RunScope): Promise<Run | undefined> {
  const [row] = await db.query<RunRow>(
    {
      name: 'find_run',
      text: `select ${RUN_COLUMNS} from ${RUN_TABLES}
        where run.id = $1 and run.organization_id = $2 and run.mode = $3 and ($4::text is null or run.tenant_id = $4)`,
    },
    [scope.id, scope.organizationId, scope.mode, scope.tenantId],
  )
  return row && runFromRow(row)
}
