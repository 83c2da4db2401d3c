import type { OrderFacts, RunId } from '../domain/facts.ts'
import { STATUS_OF } from '../domain/lifecycle.ts'
import type { Run } from '../domain/run.ts'
import { toIso } from '../lib/clock.ts'
import { presentRun, type RunView } from './present-run.ts'
import type { Static } from './schema.ts'
import type { CreatedWorkOrder, WorkOrder } from './work-order.ts'

/** A work order's newest run, with the ids of all of its runs, oldest first. */
export interface OrderedRun {
  order: OrderFacts
  run: Run
  runIds: readonly RunId[]
  createdAt: number
}

export function presentWorkOrder({ order, run, runIds, createdAt }: OrderedRun): Static<typeof WorkOrder> {
  const { facts, outcome } = run
  return {
    id: order.id,
    mode: facts.mode,
    runId: facts.id,
    runIds: [...runIds],
    status: STATUS_OF[run.state],
    taskPrompt: order.taskPrompt,
    workspaceSource: order.workspaceSource,
    agent: facts.agent.slug,
    maxIterations: order.maxIterations,
    gatePlan: order.gatePlan,
    delivery: order.delivery,
    constraints: facts.constraints,
    webhookUrl: facts.webhookUrl,
    tenantContext: facts.tenantContext,
    projectId: facts.projectId,
    purpose: facts.purpose,
    metadata: facts.metadata,
    correlationId: facts.correlationId,
    prUrl: run.prUrl,
    error: outcome?.error ?? null,
    createdAt: toIso(createdAt),
  }
}

/** The answer to a new order; `waitedFor` is its run after `Prefer: wait`. */
export function presentCreatedWorkOrder(
  order: OrderFacts,
  run: Run,
  waitedFor: RunView | undefined,
): Static<typeof CreatedWorkOrder> {
  const shown = waitedFor ?? presentRun(run)
  return {
    workOrderId: order.id,
    runId: run.facts.id,
    status: shown.status,
    createdAt: toIso(run.facts.createdAt),
    metadata: run.facts.metadata,
    ...(waitedFor && { run: waitedFor }),
  }
}
