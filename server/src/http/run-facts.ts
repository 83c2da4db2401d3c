import { parseScript } from '../agents/script.ts'
import type { CreateRunRequest } from '../contract/run.ts'
import type { Static } from '../contract/schema.ts'
import type { CreateWorkOrderRequest } from '../contract/work-order.ts'
import { constraintProblems, resolveConstraints } from '../domain/constraints.ts'
import type { RunFacts, TenantContext } from '../domain/facts.ts'
import type { JsonValue } from '../domain/json.ts'
import { MICRO_PER_CREDIT, type PriceBook } from '../domain/money.ts'
import { parseGatePlan } from '../gates/parse-plan.ts'
import { newId } from '../lib/id.ts'
import type { Agent, Caller } from './gateway.ts'
import { Problems } from './problems.ts'
import { checkCallbackUrl, checkRepositoryUrl } from './urls.ts'

/** Who submits a request, and when. */
export interface Submission {
  caller: Caller
  requestId: string
  traceparent: string
  at: number
}

/** What submissions are measured by. */
export interface House {
  agents: Readonly<Record<string, Agent>>
  prices: PriceBook
}

type RunBody = Static<typeof CreateRunRequest>
type OrderBody = Static<typeof CreateWorkOrderRequest>
type CommonBody = Pick<RunBody & OrderBody, keyof RunBody & keyof OrderBody>

/** All facts of a work order's first run. Throws with every mistake the schema could not see. */
export function orderFacts(body: OrderBody, from: Submission, house: House): RunFacts {
  const problems = new Problems()
  const agent = findAgent(house, body.agent ?? 'coder', { field: '/agent', problems })
  checkRepositoryUrl(body.workspaceSource.repository, '/workspaceSource/repository', problems)
  if (body.gatePlan !== undefined) problems.absorb(() => parseGatePlan(body.gatePlan, '/gatePlan'))
  checkCommon(body, from, { agent, problems })
  problems.throwIfAny()
  return {
    input: body.taskPrompt,
    ...commonFacts(body, from, { agent, prices: house.prices }),
    order: {
      id: newId('wo', from.at),
      taskPrompt: body.taskPrompt,
      workspaceSource: body.workspaceSource,
      gatePlan: body.gatePlan ?? null,
      delivery: body.delivery ?? null,
      maxIterations: body.maxIterations ?? 10,
    },
  }
}

/** All facts of a run without a work order. */
export function runFacts(body: RunBody, from: Submission, house: House): RunFacts {
  const problems = new Problems()
  const asked = askedOf(body, problems)
  const agent = findAgent(house, asked.agent, { field: asked.field, problems })
  if (agent.needsWorkspace) {
    problems.add(
      asked.field,
      `\`${agent.slug}\` works on a repository: create a work order with POST /v1/work-orders`,
    )
  }
  checkCommon(body, from, { agent, problems })
  problems.throwIfAny()
  return { input: asked.input, order: null, ...commonFacts(body, from, { agent, prices: house.prices }) }
}

/** The facts of a run that repeats a final one, at today's prices. */
export function retryFacts(run: RunFacts, from: Submission, house: House): RunFacts {
  return {
    ...run,
    id: newId('run', from.at),
    prices: run.mode === 'live' ? house.prices : null,
    requestId: from.requestId,
    traceparent: from.traceparent,
    createdBy: { type: 'key', id: from.caller.keyId },
    retryOf: run.id,
    createdAt: from.at,
  }
}

interface Asked {
  agent: string
  input: JsonValue
  field: string
}

function askedOf(body: RunBody, problems: Problems): Asked {
  const { agent, input, task } = body
  if (task !== undefined) {
    if (agent !== undefined) problems.add('/agent', 'cannot be given together with /task')
    if (input !== undefined) problems.add('/input', 'cannot be given together with /task')
    return { agent: task.type, input: task.input, field: '/task/type' }
  }
  if (agent === undefined) problems.add('/agent', 'is required', 'MISSING_FIELD')
  if (input === undefined) problems.add('/input', 'is required', 'MISSING_FIELD')
  problems.throwIfAny()
  return { agent: agent ?? '', input: input ?? null, field: '/agent' }
}

function findAgent(house: House, name: string, at: { field: string; problems: Problems }): Agent {
  const agents = Object.values(house.agents)
  const agent = agents.find(({ id, slug }) => id === name || slug === name)
  if (agent !== undefined) return agent
  at.problems.add(at.field, `names no agent; there are: ${agents.map(({ slug }) => slug).join(', ')}`)
  at.problems.throwIfAny()
  throw new Error('unreachable: a problem was just added')
}

function checkCommon(
  body: CommonBody,
  { caller }: Submission,
  { agent, problems }: { agent: Agent; problems: Problems },
): void {
  const allowed = { constraints: agent.defaultConstraints, toolNames: agent.toolNames }
  for (const { field, message } of constraintProblems(body.constraints ?? {}, allowed)) {
    problems.add(`/constraints/${field}`, message)
  }
  if ((body.constraints?.requireApprovalFor ?? []).length > 0) {
    problems.add(
      '/constraints/requireApprovalFor',
      'is not available yet: deny the tools with /constraints/denyTools',
    )
  }
  checkSize(body.metadata, '/metadata', problems)
  checkSize(body.tenantContext?.metadata, '/tenantContext/metadata', problems)
  if (body.webhookUrl !== undefined) checkCallbackUrl(body.webhookUrl, '/webhookUrl', problems)
  const tenantId = body.tenantContext?.tenantId
  if (caller.tenantId !== null && tenantId !== undefined && tenantId !== caller.tenantId) {
    problems.add('/tenantContext/tenantId', 'is not the tenant this key is bound to')
  }
  checkScript(body.test?.script, caller, problems)
}

function checkScript(script: JsonValue | undefined, caller: Caller, problems: Problems): void {
  if (script === undefined) return
  if (caller.mode === 'live') problems.add('/test', 'is only for test keys')
  else problems.absorb(() => parseScript(script, '/test/script'))
}

const MAX_METADATA_BYTES = 16 * 1024

function checkSize(metadata: object | undefined, field: string, problems: Problems): void {
  if (metadata === undefined) return
  const bytes = Buffer.byteLength(JSON.stringify(metadata))
  if (bytes > MAX_METADATA_BYTES) problems.add(field, `must be at most 16 KB as JSON, and is ${bytes} bytes`)
}

function commonFacts(
  body: CommonBody,
  from: Submission,
  { agent, prices }: { agent: Agent; prices: PriceBook },
): Omit<RunFacts, 'input' | 'order'> {
  const { caller } = from
  const allowed = { constraints: agent.defaultConstraints, toolNames: agent.toolNames }
  const constraints = resolveConstraints(body.constraints ?? {}, allowed)
  const isLive = caller.mode === 'live'
  return {
    id: newId('run', from.at),
    organizationId: caller.organizationId,
    mode: caller.mode,
    tenantId: caller.tenantId ?? body.tenantContext?.tenantId ?? '',
    agent: { id: agent.id, slug: agent.slug, version: agent.version, kind: agent.kind },
    models: [...agent.models],
    constraints,
    reserveMicro: isLive ? (constraints.maxCredits ?? agent.estimateCredits) * MICRO_PER_CREDIT : 0,
    prices: isLive ? prices : null,
    webhookUrl: body.webhookUrl ?? null,
    script: body.test?.script ?? null,
    metadata: body.metadata ?? {},
    tenantContext: tenantContextOf(body, caller),
    correlationId: body.correlationId ?? null,
    projectId: body.projectId ?? null,
    purpose: body.purpose ?? null,
    requestId: from.requestId,
    traceparent: from.traceparent,
    createdBy: { type: 'key', id: caller.keyId },
    retryOf: null,
    createdAt: from.at,
  }
}

/** A tenant's key need not say which tenant it is. */
const tenantContextOf = (body: CommonBody, { tenantId }: Caller): TenantContext => ({
  ...(tenantId !== null && { tenantId }),
  ...body.tenantContext,
})
