import type { Mode } from '../domain/facts.ts'
import { isFinal, type RunState } from '../domain/lifecycle.ts'
import type { Run } from '../domain/run.ts'
import type { Db } from './database.ts'
import { type PageAsk, type PageOf, readPage } from './page.ts'
import { RUN_COLUMNS, RUN_TABLES, type RunRow, runFromRow } from './runs.ts'
import type { Totals } from './totals.ts'
import { Where } from './where.ts'

/** Which runs to list; what is absent does not narrow. */
export interface RunFilter {
  states?: readonly RunState[]
  statusReason?: string
  /** The agent's slug. */
  agent?: string
  tenantId?: string
  tenantUserId?: string
  projectId?: string
  createdFrom?: Date
  createdBefore?: Date
  /** Runs whose metadata has each of these values, compared as text. */
  metadata?: Readonly<Record<string, string>>
}

export interface RunOwner {
  organizationId: string
  mode: Mode
  tenantId: string | null
}

/** Newest first. Filters on what only the facts say (user, project, metadata) read every run of the owner. */
export async function listRuns(
  db: Db,
  list: { owner: RunOwner; filter: RunFilter; totals: Totals },
  ask: PageAsk,
): Promise<PageOf<Run>> {
  const where = ownRuns(list.owner)
  narrow(where, list.filter)
  const { rows, ...place } = await readPage<RunRow>(
    db,
    {
      select: RUN_COLUMNS,
      from: RUN_TABLES,
      ...(readsFacts(list.filter) ? {} : { countFrom: 'run' }),
      ...(keepsRows(list.filter) && { totals: list.totals }),
      where,
      at: 'run.created_at',
      id: 'run.id',
    },
    ask,
  )
  return { rows: rows.map(runFromRow), ...place }
}

/** Whether what fits the filter once fits it ever after: runs are not deleted, and a final one never changes (8). */
const keepsRows = ({ states, statusReason }: RunFilter): boolean =>
  states === undefined ? statusReason === undefined : states.every(isFinal)

/** Whether a filter needs more than the columns of `run`. */
const readsFacts = ({ tenantUserId, projectId, metadata }: RunFilter): boolean =>
  tenantUserId !== undefined || projectId !== undefined || Object.keys(metadata ?? {}).length > 0

function ownRuns({ organizationId, mode, tenantId }: RunOwner): Where {
  const where = new Where().and('run.organization_id = ?', organizationId).and('run.mode = ?', mode)
  return tenantId === null ? where : where.and('run.tenant_id = ?', tenantId)
}

function narrow(where: Where, filter: RunFilter): void {
  const { states, statusReason, agent, tenantId, tenantUserId, projectId } = filter
  if (states) where.and('run.state = any(?)', states)
  if (statusReason !== undefined) where.and('run.status_reason = ?', statusReason)
  if (agent !== undefined) where.and('run.agent = ?', agent)
  if (tenantId !== undefined) where.and('run.tenant_id = ?', tenantId)
  if (filter.createdFrom) where.and('run.created_at >= ?', filter.createdFrom)
  if (filter.createdBefore) where.and('run.created_at < ?', filter.createdBefore)
  if (tenantUserId !== undefined) {
    where.and(`run_body.facts::json -> 'tenantContext' ->> 'tenantUserId' = ?`, tenantUserId)
  }
  if (projectId !== undefined) where.and(`run_body.facts::json ->> 'projectId' = ?`, projectId)
  for (const [key, value] of Object.entries(filter.metadata ?? {})) {
    where.and(`run_body.facts::json -> 'metadata' ->> ?::text = ?`, key, value)
  }
}
