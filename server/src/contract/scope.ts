const RESOURCES = [
  'work-orders',
  'runs',
  'approvals',
  'webhooks',
  'agents',
  'tools',
  'policies',
  'credits',
  'templates',
  'keys',
  'git-credentials',
  'audit',
] as const

type Resource = (typeof RESOURCES)[number]

/** What a key may be allowed to do. `*` is everything. */
export type Scope = `${Resource}:${'read' | 'write'}` | 'approvals:decide' | 'admin:*' | '*'

export const SCOPES: readonly Scope[] = [
  ...RESOURCES.flatMap((resource): Scope[] => [`${resource}:read`, `${resource}:write`]),
  'approvals:decide',
  'admin:*',
  '*',
]

/** Whether a holder of these scopes may do what `needed` names. */
export const covers = (held: readonly string[], needed: Scope): boolean =>
  held.includes(needed) || held.includes('*')
