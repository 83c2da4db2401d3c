import { MAX_STRIKES } from '../domain/command.ts'
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

/** What the runs of an organisation by one agent wait for together. */
interface Place {
  organization_id: string
  mode: string
  agent: string
}

interface LaneRow extends Place {
  tenant_id: string
  queued: number
  tag: number
  weight: number
  /** Of its tenant. */
  at_work: number
  virtual_time: number
}

/**
 * The lanes that wait and that no cap stops, earliest tag first. Costs as much as there are organisations and agents with
 * waiting runs, 256 lanes of each that has room, and the lanes of full tenants before them; nothing for any other lane.
 */
export async function readQueue(db: Db, capOf: (scope: Scope) => number): Promise<Queue> {
  const places = await listPlaces(db)
  const room = new Map<string, number>()
  const waiting = new Set(
    places.map(({ organization_id: organizationId, mode }) => organizationScope({ organizationId, mode })),
  )
  if (places.length === 0) return { lanes: [], waiting, room, virtualTime: 0 }
  const scopes = new Map(places.flatMap(sharedScopes).map((scope) => [scope.key, scope]))
  const running = await countAtWork(db, [...scopes.keys()])
  for (const [key, scope] of scopes) room.set(key, capOf(scope) - (running.get(key) ?? 0))
  const open = places.filter((place) => sharedScopes(place).every(({ key }) => (room.get(key) ?? 0) > 0))
  if (open.length === 0) return { lanes: [], waiting, room, virtualTime: 0 }
  const tenantCap = capOf({ kind: 'tenant', key: '' })
  const heads = await listLaneHeads(db, open, tenantCap)
  for (const head of heads) {
    const tenant = scopesOf(laneOf(head)).find(({ kind }) => kind === 'tenant')
    if (tenant !== undefined) room.set(tenant.key, tenantCap - head.at_work)
  }
  return { lanes: heads.map(laneOf), waiting, room, virtualTime: heads[0]?.virtual_time ?? 0 }
}

/** Steps from one place to the next in the index, over all the lanes of each. */
const listPlaces = (db: Db): Promise<Place[]> =>
  db.query({
    name: 'list_places',
    text: `
      with recursive place as (
        (select organization_id, mode, agent from lane where queued > 0
          order by organization_id, mode, agent limit 1)
        union all
        select following.* from place, lateral (
          select organization_id, mode, agent from lane
          where queued > 0 and (organization_id, mode, agent) > (place.organization_id, place.mode, place.agent)
          order by organization_id, mode, agent limit 1
        ) as following
      )
      select * from place`,
  })

async function countAtWork(db: Db, scopes: readonly string[]): Promise<Map<string, number>> {
  const rows = await db.query<{ scope: string; running: number }>(
    { name: 'count_at_work', text: 'select scope, running from capacity where scope = any($1)' },
    [scopes],
  )
  return new Map(rows.map((row) => [row.scope, row.running]))
}

const listLaneHeads = (db: Db, places: readonly Place[], tenantCap: number): Promise<LaneRow[]> =>
  db.query(
    {
      name: 'list_lane_heads',
      text: `
        select head.*, (select virtual_time from lane order by virtual_time desc limit 1) as virtual_time
        from unnest($1::text[], $2::text[], $3::text[]) as place (organization_id, mode, agent), lateral (
          select lane.organization_id, lane.mode, lane.agent, tenant_id, queued, tag, weight,
            coalesce(capacity.running, 0) as at_work
          from lane left join capacity
            on capacity.scope = lane.organization_id || '/' || lane.mode || '/tenant/' || lane.tenant_id
          where lane.organization_id = place.organization_id and lane.mode = place.mode and lane.agent = place.agent
            and queued > 0 and coalesce(capacity.running, 0) < $4
          order by tag limit $5
        ) as head
        order by tag limit $5`,
    },
    [
      places.map((place) => place.organization_id),
      places.map(({ mode }) => mode),
      places.map(({ agent }) => agent),
      tenantCap,
      LANE_HEADS,
    ],
  )

const laneOf = (row: LaneRow): Lane => ({
  organizationId: row.organization_id,
  mode: row.mode,
  tenantId: row.tenant_id,
  agent: row.agent,
  queued: row.queued,
  tag: row.tag,
  weight: row.weight,
})

/** Those of all its lanes; each tenant has one more. */
const sharedScopes = ({ organization_id: organizationId, mode, agent }: Place): Scope[] =>
  scopesOf({ organizationId, mode, tenantId: '', agent })

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

/**
 * What a run is to those that are taken up beside it: `unproven`, it may be what kills, for its worker was lost or it was
 * handed back without a step; `suspect`, the same, and this claim is its last; `over`, the claim only ends it; `sound`, it
 * was handed back after a step.
 */
export type Standing = 'sound' | 'unproven' | 'suspect' | 'over'

export interface Orphan {
  id: RunId
  claim: string | null
  handedBack: boolean
  standing: Standing
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
    standing: Standing
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
        select id, claim, handed_back,
          case
            when is_canceled or tries > $3 then 'over'
            when tries = $3 then 'suspect'
            when tries > 0 then 'unproven'
            else 'sound'
          end as standing
        from (
          select id, claim, handed_back, fold::json as fold from run where state = 'running' and worker_id is null
          union all
          select id, claim, handed_back, fold::json from run where worker_id in (select id from gone)
        ) as orphan, lateral (
          select coalesce((fold ->> 'strikes')::int, 0) + (not handed_back)::int as tries,
            (fold ->> 'cancelRequestedAt') is not null as is_canceled
        ) as known
        order by (tries = $3 and not is_canceled), id limit $2`,
    },
    [at, limit, MAX_STRIKES],
  )
  return rows.map((row) => ({
    id: row.id,
    claim: row.claim,
    handedBack: row.handed_back,
    standing: row.standing,
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
      text: `select coalesce(sum(queued), 0)::int as queued from lane
        where organization_id = $1 and mode = $2 and queued > 0`,
    },
    [organizationId, mode],
  )
  return row?.queued ?? 0
}
