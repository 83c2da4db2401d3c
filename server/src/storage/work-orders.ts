import type { RunId } from '../domain/facts.ts'
import type { RunState } from '../domain/lifecycle.ts'
import type { Run } from '../domain/run.ts'
import type { Db } from './database.ts'
import { type PageAsk, type PageOf, readPage } from './page.ts'
import type { RunOwner } from './run-lists.ts'
import { RUN_COLUMNS, RUN_TABLES, type RunRow, runFromRow } from './runs.ts'
import type { Totals } from './totals.ts'
import { Where } from './where.ts'

/** A work order by its newest run. */
export interface WorkOrderRow {
  run: Run
  /** All of its runs, oldest first. */
  runIds: RunId[]
  createdAt: Date
}

type Row = RunRow & { run_ids: RunId[]; ordered_at: Date }

const SELECT = `${RUN_COLUMNS}, work_order.created_at as ordered_at,
  array(select r.id from run r where r.work_order_id = work_order.id order by r.id) as run_ids`

const FROM = `work_order join ${RUN_TABLES.replace('run join', 'run on run.id = work_order.run_id join')}`

export async function findWorkOrder(db: Db, owner: RunOwner, id: string): Promise<WorkOrderRow | undefined> {
  const where = ownOrders(owner).and('work_order.id = ?', id)
  const [row] = await db.query<Row>(`select ${SELECT} from ${FROM} where ${where.sql}`, where.values)
  return row && orderFromRow(row)
}

/** Newest first; `states` are those of the newest run. */
export async function listWorkOrders(
  db: Db,
  list: { owner: RunOwner; states: readonly RunState[] | null; totals: Totals },
  ask: PageAsk,
): Promise<PageOf<WorkOrderRow>> {
  const where = ownOrders(list.owner)
  if (list.states !== null) where.and('run.state = any(?)', list.states)
  const { rows, ...place } = await readPage<Row>(
    db,
    {
      select: SELECT,
      from: FROM,
      where,
      at: 'work_order.created_at',
      id: 'work_order.id',
      // A retry of an order's newest run gives the order another state.
      ...(list.states === null && { countFrom: 'work_order', totals: list.totals }),
    },
    ask,
  )
  return { rows: rows.map(orderFromRow), ...place }
}

const orderFromRow = (row: Row): WorkOrderRow => ({
  run: runFromRow(row),
  runIds: row.run_ids,
  createdAt: row.ordered_at,
})

function ownOrders({ organizationId, mode, tenantId }: RunOwner): Where {
  const where = new Where()
    .and('work_order.organization_id = ?', organizationId)
    .and('work_order.mode = ?', mode)
  return tenantId === null ? where : where.and('work_order.tenant_id = ?', tenantId)
}
