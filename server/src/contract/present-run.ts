import { isFinal, STATUS_OF } from '../domain/lifecycle.ts'
import { creditsCharged } from '../domain/money.ts'
import type { Run as DomainRun } from '../domain/run.ts'
import { toIso } from '../lib/clock.ts'
import type { Run } from './run.ts'
import type { Static } from './schema.ts'

export type RunView = Static<typeof Run>

/**
 * A run as clients see it. The answer depends on the run alone and not on the time of asking, so that an unchanged
 * run has an unchanged ETag and a replayed create the same bytes.
 */
export function presentRun(run: DomainRun, queuePosition?: number): RunView {
  const { facts, outcome } = run
  const partialOutput = outcome?.partialOutput ?? null
  const [provider, model] = splitModel(facts.models[0] ?? '')
  return {
    id: facts.id,
    ...(facts.order && { workOrderId: facts.order.id }),
    agent: { id: facts.agent.id, slug: facts.agent.slug, version: facts.agent.version },
    ...(model !== '' && { model: { provider, id: model } }),
    mode: facts.mode,
    state: run.state,
    status: STATUS_OF[run.state],
    statusReason: run.statusReason,
    pending: [],
    lastSeq: run.lastSeq,
    ...(queuePosition !== undefined && { queuePosition }),
    attempt: run.attempt,
    iterations: run.iteration.n,
    input: facts.input,
    output: outcome?.output ?? null,
    ...(outcome?.outputUrl && { outputUrl: outcome.outputUrl }),
    ...(partialOutput !== null && { partialOutput }),
    verification: run.verification,
    ...(outcome?.delivery && { delivery: outcome.delivery }),
    ...(run.prUrl !== null && { prUrl: run.prUrl }),
    ...(outcome?.error && { error: outcome.error }),
    usage: run.usage,
    cost: presentCost(run),
    timing: presentTiming(run),
    createdAt: toIso(facts.createdAt),
    ...(run.completedAt !== null && { completedAt: toIso(run.completedAt) }),
    ...(run.cancelRequestedAt !== null && { cancelRequestedAt: toIso(run.cancelRequestedAt) }),
    ...(run.state === 'canceled' && run.completedAt !== null && { canceledAt: toIso(run.completedAt) }),
    createdBy: facts.createdBy,
    tenantContext: facts.tenantContext,
    projectId: facts.projectId,
    purpose: facts.purpose,
    metadata: facts.metadata,
    correlationId: facts.correlationId,
    requestId: facts.requestId,
    traceparent: facts.traceparent,
    ...(facts.retryOf !== null && { retryOf: facts.retryOf }),
    constraints: facts.constraints,
  }
}

function splitModel(name: string): [provider: string, id: string] {
  const slash = name.indexOf('/')
  return slash === -1 ? ['', name] : [name.slice(0, slash), name.slice(slash + 1)]
}

function presentCost(run: DomainRun): RunView['cost'] {
  const final = isFinal(run.state)
  const credits = creditsCharged(final ? run.chargedMicro : run.costMicro)
  return { credits, currency: 'USD', estimated: !final || run.estimated }
}

function presentTiming(run: DomainRun): RunView['timing'] {
  const final = isFinal(run.state)
  const begun = run.startedAt ?? run.completedAt
  return {
    queuedMs: begun === null ? null : begun - run.facts.createdAt,
    startedAt: run.startedAt === null ? null : toIso(run.startedAt),
    completedAt: run.completedAt === null ? null : toIso(run.completedAt),
    durationMs: final ? run.runningMs : null,
    waitingMs: final ? run.waitingMs : null,
  }
}
