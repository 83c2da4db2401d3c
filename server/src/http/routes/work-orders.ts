import { presentRun } from '../../contract/present-run.ts'
import {
  type OrderedRun,
  presentCreatedWorkOrder,
  presentWorkOrder,
} from '../../contract/present-work-order.ts'
import { notFound } from '../../domain/error.ts'
import type { RunFacts } from '../../domain/facts.ts'
import { invariant } from '../../lib/invariant.ts'
import type { Totals } from '../../storage/totals.ts'
import { findWorkOrder, listWorkOrders, type WorkOrderRow } from '../../storage/work-orders.ts'
import type { Gateway } from '../gateway.ts'
import type { Handlers } from '../handler.ts'
import { REPLAYED } from '../once.ts'
import { pageAnswer, pageAsk } from '../paging.ts'
import { invalidField } from '../problems.ts'
import { orderFacts } from '../run-facts.ts'
import { statesOf } from '../run-filter.ts'
import { awaitRun, waitHeaders } from '../waiting.ts'

export function workOrderRoutes(
  gateway: Gateway,
  totals: Totals,
): Pick<Handlers, 'createWorkOrder' | 'listWorkOrders' | 'getWorkOrder'> {
  return {
    async createWorkOrder(call) {
      const facts = orderFacts(call.body, call, gateway)
      await checkDelivery(gateway, facts)
      const { run, replayed } = await gateway.engine.createRun(facts, { idempotency: call.mark })
      const { order } = run.facts
      invariant(order !== null, 'the run of a work order knows its order')
      const waitedFor = call.waitSeconds === null ? undefined : presentRun(await awaitRun(gateway, call, run))
      const headers = {
        ...waitHeaders(call),
        ...(replayed && REPLAYED),
        location: `/v1/work-orders/${order.id}`,
      }
      return { status: 201, body: presentCreatedWorkOrder(order, run, waitedFor), headers }
    },

    async listWorkOrders({ caller, query }) {
      const ask = pageAsk(query)
      const states = statesOf(query) ?? null
      const page = await listWorkOrders(gateway.db, { owner: caller, states, totals }, ask)
      return { status: 200, body: pageAnswer(page, ask, (row) => presentWorkOrder(orderedRun(row))) }
    },

    async getWorkOrder({ caller, params }) {
      const row = await findWorkOrder(gateway.db, caller, params.id)
      if (row === undefined) throw notFound(`Work order ${params.id}`)
      return { status: 200, body: presentWorkOrder(orderedRun(row)) }
    },
  }
}

/** A pull request that was asked for by name needs a host with an API; by default a branch will do. */
async function checkDelivery(gateway: Gateway, facts: RunFacts): Promise<void> {
  const { mode, order } = facts
  if (mode === 'test' || order?.delivery?.mode !== 'pull_request') return
  const { repository } = order.workspaceSource
  if (await gateway.knowsForge(facts, repository)) return
  const { host } = new URL(repository)
  const remedy = 'store a credential with `use: "publish"` and `apiBaseUrl`, or ask for `branch`'
  throw invalidField('/delivery/mode', `is \`pull_request\`, but no API of ${host} is known: ${remedy}`)
}

function orderedRun({ run, runIds, createdAt }: WorkOrderRow): OrderedRun {
  const { order } = run.facts
  invariant(order !== null, 'the run of a work order knows its order')
  return { order, run, runIds, createdAt: createdAt.getTime() }
}
