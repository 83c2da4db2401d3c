import { presentRun } from '../../contract/present-run.ts'
import {
  type OrderedRun,
  presentCreatedWorkOrder,
  presentWorkOrder,
} from '../../contract/present-work-order.ts'
import { notFound } from '../../domain/error.ts'
import { invariant } from '../../lib/invariant.ts'
import { findWorkOrder, listWorkOrders, type WorkOrderRow } from '../../storage/work-orders.ts'
import type { Gateway } from '../gateway.ts'
import type { Handlers } from '../handler.ts'
import { REPLAYED } from '../once.ts'
import { pageAnswer, pageAsk } from '../paging.ts'
import { orderFacts } from '../run-facts.ts'
import { statesOf } from '../run-filter.ts'
import { awaitRun, waitHeaders } from '../waiting.ts'

export function workOrderRoutes(
  gateway: Gateway,
): Pick<Handlers, 'createWorkOrder' | 'listWorkOrders' | 'getWorkOrder'> {
  return {
    async createWorkOrder(call) {
      const facts = orderFacts(call.body, call, gateway)
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
      const states = statesOf(query)
      const page = await listWorkOrders(gateway.db, { owner: caller, states: states ?? null }, ask)
      return { status: 200, body: pageAnswer(page, ask, (row) => presentWorkOrder(orderedRun(row))) }
    },

    async getWorkOrder({ caller, params }) {
      const row = await findWorkOrder(gateway.db, caller, params.id)
      if (row === undefined) throw notFound(`Work order ${params.id}`)
      return { status: 200, body: presentWorkOrder(orderedRun(row)) }
    },
  }
}

function orderedRun({ run, runIds, createdAt }: WorkOrderRow): OrderedRun {
  const { order } = run.facts
  invariant(order !== null, 'the run of a work order knows its order')
  return { order, run, runIds, createdAt: createdAt.getTime() }
}
