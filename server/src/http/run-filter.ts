import type { ListRunsQuery } from '../contract/run.ts'
import type { Static } from '../contract/schema.ts'
import { RUN_STATES, type RunState, STATUS_OF } from '../domain/lifecycle.ts'
import type { RunFilter } from '../storage/run-lists.ts'
import type { Agent } from './gateway.ts'

type Query = Static<typeof ListRunsQuery>

/** The states that fit both words; `undefined` when neither narrows. `cancelled` is `canceled`. */
export function statesOf({ state, status }: Pick<Query, 'state' | 'status'>): RunState[] | undefined {
  if (state === undefined && status === undefined) return undefined
  const wantedState = state === 'cancelled' ? 'canceled' : state
  const wantedStatus = status === 'cancelled' ? 'canceled' : status
  return RUN_STATES.filter(
    (one) =>
      (wantedState === undefined || one === wantedState) &&
      (wantedStatus === undefined || STATUS_OF[one] === wantedStatus),
  )
}

export function runFilter(query: Query, agents: Readonly<Record<string, Agent>>): RunFilter {
  const { agent, statusReason, tenantId, tenantUserId, projectId, createdAfter, createdBefore } = query
  const states = statesOf(query)
  const slug = Object.values(agents).find(({ id }) => id === agent)?.slug ?? agent
  return {
    ...(states && { states }),
    ...(statusReason !== undefined && { statusReason }),
    ...(slug !== undefined && { agent: slug }),
    ...(tenantId !== undefined && { tenantId }),
    ...(tenantUserId !== undefined && { tenantUserId }),
    ...(projectId !== undefined && { projectId }),
    ...(createdAfter !== undefined && { createdFrom: new Date(createdAfter) }),
    ...(createdBefore !== undefined && { createdBefore: new Date(createdBefore) }),
    metadata: metadataOf(query),
  }
}

/** `metadata[plan]=gold` asks for runs whose metadata has `plan` with the value `gold`. */
const metadataOf = (query: Query): Record<string, string> =>
  Object.fromEntries(
    Object.entries(query).flatMap(([name, value]) => {
      const [, key] = /^metadata\[(.+)\]$/.exec(name) ?? []
      return key === undefined ? [] : [[key, String(value)]]
    }),
  )
