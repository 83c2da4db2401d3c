import type { Constraints } from './facts.ts'

/** What a run may at most be given. */
export interface Allowance {
  constraints: Constraints
  toolNames: readonly string[]
}

export interface ConstraintProblem {
  field: keyof Constraints
  message: string
}

const CAPS = [
  'maxSteps',
  'maxToolCalls',
  'maxTokens',
  'maxCredits',
  'maxDurationSeconds',
  'maxWaitSeconds',
  'maxIdenticalCalls',
  'maxQueueSeconds',
] as const

const TOOL_LISTS = ['requireApprovalFor', 'allowTools', 'denyTools'] as const

/** The constraints of a run: what was asked for where it is tighter than what is allowed, else what is allowed. */
export function resolveConstraints(requested: Partial<Constraints>, { constraints }: Allowance): Constraints {
  const { requireApprovalFor = [], allowTools, denyTools = [], ...caps } = requested
  return {
    ...constraints,
    ...caps,
    requireApprovalFor: union(constraints.requireApprovalFor, requireApprovalFor),
    allowTools: allowTools ?? constraints.allowTools,
    denyTools: union(constraints.denyTools, denyTools),
  }
}

/** Everything in a request that is looser than what is allowed, or names a tool that does not exist. */
export function constraintProblems(requested: Partial<Constraints>, allowed: Allowance): ConstraintProblem[] {
  return [
    ...CAPS.flatMap((field) => looserCap(field, requested[field], allowed.constraints[field])),
    ...TOOL_LISTS.flatMap((field) => unknownTools(field, requested[field] ?? [], allowed.toolNames)),
    ...forbiddenTools(requested.allowTools ?? [], allowed.constraints.allowTools),
  ]
}

function looserCap(
  field: keyof Constraints,
  requested: number | null | undefined,
  allowed: number | null,
): ConstraintProblem[] {
  if (requested === undefined || allowed === null) return []
  const isLooser = requested === null || requested > allowed
  return isLooser ? [{ field, message: `must be at most ${allowed}, as this agent allows` }] : []
}

function unknownTools(
  field: keyof Constraints,
  names: readonly string[],
  known: readonly string[],
): ConstraintProblem[] {
  const unknown = names.filter((name) => !known.includes(name))
  if (unknown.length === 0) return []
  const choice = known.length === 0 ? 'this agent has no tools' : `its tools are ${known.join(', ')}`
  return [{ field, message: `names no tool of this agent: ${unknown.join(', ')}; ${choice}` }]
}

function forbiddenTools(
  requested: readonly string[],
  allowed: readonly string[] | null,
): ConstraintProblem[] {
  const beyond = allowed === null ? [] : requested.filter((name) => !allowed.includes(name))
  return beyond.length === 0
    ? []
    : [{ field: 'allowTools', message: `goes beyond what this agent may use: ${beyond.join(', ')}` }]
}

const union = (a: readonly string[], b: readonly string[]): string[] => [...new Set([...a, ...b])]
