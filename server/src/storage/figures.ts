import type { Mode } from '../domain/facts.ts'
import type { Db } from './database.ts'

/** How far behind the house is, all of it from indexes. Ages in seconds; 0 where nothing waits. */
export interface Figures {
  modes: { mode: Mode; queued: number; running: number; oldestQueuedSeconds: number }[]
  oldestDueSeconds: number
  oldestDeliverySeconds: number
  /** With a lease that is not over. */
  workers: number
}

export async function readFigures(db: Db, atMs: number): Promise<Figures> {
  const at = new Date(atMs)
  const lanes = await db.query<{ mode: Mode; queued: number; running: number; oldest: Date | null }>(
    `select mode, sum(queued)::int as queued, sum(running)::int as running, min(oldest.created_at) as oldest
      from lane left join lateral (
        select created_at from run
        where lane.queued > 0 and run.organization_id = lane.organization_id and run.mode = lane.mode
          and run.tenant_id = lane.tenant_id and run.agent = lane.agent and run.state = 'queued'
        order by run.id limit 1
      ) as oldest on true
      group by mode`,
  )
  const [behind] = await db.query<{ due: Date | null; delivery: Date | null; workers: number }>(
    `select (select min(due_at) from run where due_at <= $1) as due,
       (select min(next_attempt_at) from delivery where outcome is null and next_attempt_at <= $1) as delivery,
       (select count(*) from worker where lease_until > $1)::int as workers`,
    [at],
  )
  const age = (since: Date | null | undefined): number =>
    since ? Math.max(0, (atMs - since.getTime()) / 1000) : 0
  const of = (mode: Mode): Figures['modes'][number] => {
    const found = lanes.find((lane) => lane.mode === mode)
    const { queued = 0, running = 0 } = found ?? {}
    return { mode, queued, running, oldestQueuedSeconds: age(found?.oldest) }
  }
  return {
    modes: [of('live'), of('test')],
    oldestDueSeconds: age(behind?.due),
    oldestDeliverySeconds: age(behind?.delivery),
    workers: behind?.workers ?? 0,
  }
}
