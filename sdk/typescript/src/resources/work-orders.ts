import { listPages, segment } from '../list.ts'
import type { PagePromise } from '../page.ts'
import type { RequestOptions, Transport } from '../transport.ts'
import type {
  CreatedWorkOrder,
  CreateWorkOrderRequest,
  ListWorkOrdersParams,
  Metadata,
  WorkOrder,
} from '../types.ts'
import { readRun, type WireRun } from './runs.ts'

export class WorkOrders {
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** Submits a work order; its run is queued when this returns. */
  async create<M extends Metadata = Metadata>(
    request: CreateWorkOrderRequest<M>,
    options?: RequestOptions,
  ): Promise<CreatedWorkOrder<M>> {
    type Wire = Omit<CreatedWorkOrder<M>, 'run'> & { run?: WireRun }
    const { run, ...created } = await this.#transport.json<Wire>(
      { method: 'POST', path: '/v1/work-orders', body: request },
      options,
    )
    return run ? { ...created, run: readRun(run) } : created
  }

  get(id: string, options?: RequestOptions): Promise<WorkOrder> {
    return this.#transport.json({ method: 'GET', path: `/v1/work-orders/${segment(id)}` }, options)
  }

  /** Newest first. */
  list(params: ListWorkOrdersParams = {}, options?: RequestOptions): PagePromise<WorkOrder> {
    const read = (order: WorkOrder): WorkOrder => order
    return listPages(this.#transport, { path: '/v1/work-orders', query: params, read }, options)
  }
}
