/**
 * Start-time fair queueing over lanes: each dispatch moves its lane by 1/weight from where the lane stands or
 * from virtual time, whichever is later, and the lane that stands earliest goes next. A lane that was idle
 * starts at virtual time, so it is served at once and gathers no credit for the past.
 */
export interface Lane {
  organizationId: string
  mode: string
  tenantId: string
  agent: string
  queued: number
  tag: number
  weight: number
}

/** What a cap may be set on. */
export interface Scope {
  kind: 'organization' | 'tenant' | 'agent'
  key: string
}

/** How many more runs each scope may have at work, by key; a scope that is not listed has no cap. */
export type Room = ReadonlyMap<string, number>

export interface Turn {
  lane: Lane
  virtualTime: number
}

type Place = Pick<Lane, 'organizationId' | 'mode' | 'tenantId' | 'agent'>

/** The key of the scope of a whole organisation, in one mode. */
export const organizationScope = ({ organizationId, mode }: Pick<Place, 'organizationId' | 'mode'>): string =>
  `${organizationId}/${mode}`

/** The scopes that runs of a lane count in. */
export function scopesOf({ organizationId, mode, tenantId, agent }: Place): Scope[] {
  const organization = organizationScope({ organizationId, mode })
  return [
    { kind: 'organization', key: organization },
    ...(tenantId === '' ? [] : [{ kind: 'tenant' as const, key: `${organization}/tenant/${tenantId}` }]),
    { kind: 'agent', key: `${organization}/agent/${agent}` },
  ]
}

/** Which lanes get the `free` slots, in order; a lane may be picked several times. Pure. */
export function pickClaims(
  lanes: readonly Lane[],
  room: Room,
  options: { free: number; virtualTime: number },
): Turn[] {
  const left = new Map(room)
  const open = lanes.map((lane) => ({ lane, tag: lane.tag, queued: lane.queued }))
  const picks: Turn[] = []
  let virtualTime = options.virtualTime
  while (picks.length < options.free) {
    const eligible = open.filter((each) => each.queued > 0 && hasRoom(left, each.lane))
    const next = eligible.reduce<(typeof open)[number] | undefined>(
      (first, each) => (first === undefined || start(each) < start(first) ? each : first),
      undefined,
    )
    if (next === undefined) break
    virtualTime = Math.max(virtualTime, next.tag)
    picks.push({ lane: next.lane, virtualTime })
    next.tag = virtualTime + 1 / next.lane.weight
    next.queued -= 1
    for (const { key } of scopesOf(next.lane)) {
      const rest = left.get(key)
      if (rest !== undefined) left.set(key, rest - 1)
    }
  }
  return picks

  function start(each: { tag: number }): number {
    return Math.max(each.tag, options.virtualTime)
  }
}

const hasRoom = (left: ReadonlyMap<string, number>, lane: Lane): boolean =>
  scopesOf(lane).every(({ key }) => (left.get(key) ?? 1) > 0)
