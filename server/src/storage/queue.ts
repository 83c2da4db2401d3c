import type { RunId } from '../domain/facts.ts'
import { type Lane, organizationScope, type Scope, scopesOf } from '../domain/fairness.ts'
import type { Run } from '../domain/run.ts'
import type { Db } from './database.ts'

const LANE_HEADS = 256

export interface Queue {
  lanes: Lane[]
  /** Organisations, by the key of their scope, of which any run waits, stopped by a cap or not. */
  waiting: ReadonlySet<string>
  /** How many more runs the scopes of these lanes may have at work. */
  room: Map<string, number>
  virtualTime: number
}

interface LaneRow {
  organization_id: string
  mode: string
  tenant_id: string
  agent: string
  queued: number
  tag: number
  weight: number
}

/** The lanes that wait and that no cap stops, earliest tag first. */
export async function readQueue(db: Db, capOf: (scope: Scope) => number): Promise<Queue> {
  const waiting = await db.query<LaneRow>({
    name: 'read_lanes',
    text: `select organization_id, mode, tenant_id, agent, queued, tag, weight from lane where queued > 0 order by tag`,
  })
  if (waiting.length === 0) return { lanes: [], waiting: new Set(), room: new Map(), virtualTime: 0 }
  const counts = await db.query<{ scope: string; running: number }>({
    name: 'read_capacity',
    text: 'select scope, running from capacity where running > 0',
  })
  const [clock] = await db.query<{ virtual_time: number }>({
    name: 'read_virtual_time',
    text: 'select coalesce(max(virtual_time), 0) as virtual_time from lane',
  })
  const running = new Map(counts.map((row) => [row.scope, row.running]))
  const room = new Map<string, number>()
  const all = waiting.map(laneOf)
  const lanes = all.filter((lane) =>
    scopesOf(lane).every((scope) => {
      const left = room.get(scope.key) ?? capOf(scope) - (running.get(scope.key) ?? 0)
      room.set(scope.key, left)
      return left > 0
    }),
  )
  return {
    lanes: lanes.slice(0, LANE_HEADS),
    waiting: new Set(all.map(organizationScope)),
    room,
    virtualTime: clock?.virtual_time ?? 0,
  }
}

const laneOf = (row: LaneRow): Lane => ({
  organizationId: row.organization_id,
  mode: row.mode,
  tenantId: row.tenant_id,
  agent: row.agent,
  queued: row.queued,
  tag: row.tag,
  weight: row.weight,
})

/** How many runs of the same lane stand before a queued run, plus one. */
export async function findQueuePosition(db: Db, { facts }: Run): Promise<number> {
  const [row] = await db.query<{ position: number }>(
    {
      name: 'find_queue_position',
      text: `select count(*)::int as position from run where organization_id = $1 and mode = $2 and tenant_id = $3
        and agent = $4 and state = 'queued' and id <= $5`,
    },
    [facts.organizationId, facts.mode, facts.tenantId, facts.agent.slug, facts.id],
  )
  return row?.position ?? 0
}

/** The oldest queued runs of a lane. */
export async function listQueued(db: Db, lane: Lane, limit: number): Promise<RunId[]> {
  const rows = await db.query<{ id: RunId }>(
    {
      name: 'list_queued',
      text: `select id from run where organization_id = $1 and mode = $2 and tenant_id = $3 and agent = $4
        and state = 'queued' order by id limit $5`,
    },
    [lane.organizationId, lane.mode, lane.tenantId, lane.agent, limit],
  )
  return rows.map(({ id }) => id)
}

export interface Orphan {
  id: RunId
  claim: string | null
  handedBack: boolean
  /** It lost its holder before the first step of the claim was journaled: it may be what killed the worker. */
  isSuspect: boolean
}

/**
 * Started runs without a living holder: handed back, or their worker's lease is over. Suspects last, else oldest first.
 * Holders are looked up one by one in the index of held runs: a plan for all of them reads every queued run while the
 * table is younger than its statistics.
 */
export async function listOrphans(db: Db, at: Date, limit: number): Promise<Orphan[]> {
  const rows = await db.query<{
    id: RunId
    claim: string | null
    handed_back: boolean
    is_suspect: boolean
  }>(
    {
      name: 'list_orphans',
      text: `
        with recursive holder as (
          (select worker_id as id from run where worker_id is not null order by worker_id limit 1)
          union all
          select (select worker_id from run where worker_id > holder.id order by worker_id limit 1)
          from holder where holder.id is not null
        ),
        gone as materialized (
          select holder.id from holder left join worker on worker.id = holder.id
          where holder.id is not null and (worker.id is null or worker.lease_until < $1)
        )
        select id, claim, handed_back, not handed_back and coalesce(fold::json ->> 'strikes', '0') <> '0' as is_suspect from (
          select id, claim, handed_back, fold from run where state = 'running' and worker_id is null
          union all
          select id, claim, handed_back, fold from run where worker_id in (select id from gone)
        ) as orphan order by is_suspect, id limit $2`,
    },
    [at, limit],
  )
  return rows.map((row) => ({
    id: row.id,
    claim: row.claim,
    handedBack: row.handed_back,
    isSuspect: row.is_suspect,
  }))
}

/** Runs whose deadline has passed, most overdue first. */
export async function listDue(db: Db, at: Date, limit: number): Promise<RunId[]> {
  const rows = await db.query<{ id: RunId }>(
    { name: 'list_due', text: 'select id from run where due_at <= $1 order by due_at limit $2' },
    [at, limit],
  )
  return rows.map(({ id }) => id)
}

/** Makes sure that a scope with a cap can be counted. */
export async function insertCapacity(db: Db, scope: string): Promise<void> {
  await db.query('insert into capacity (scope) values ($1) on conflict do nothing', [scope])
}

export async function countQueued(db: Db, organizationId: string, mode: string): Promise<number> {
  const [row] = await db.query<{ queued: number }>(
    {
      name: 'count_queued',
      text: 'select coalesce(sum(queued), 0)::int as queued from lane where organization_id = $1 and mode = $2',
    },
    [organizationId, mode],
  )
  return row?.queued ?? 0
}
