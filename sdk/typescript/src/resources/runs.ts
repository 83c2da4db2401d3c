import type { RunEvent } from '../events.ts'
import { followEvents } from '../follow.ts'
import { listPages, segment } from '../list.ts'
import { Page, type PageFields, PagePromise } from '../page.ts'
import type { RequestOptions, Transport } from '../transport.ts'
import type { CreateRunRequest, ListRunsParams, Run } from '../types.ts'
import { type WaitOptions, waitForRun } from '../wait.ts'
import { Artifacts } from './artifacts.ts'

/** Fields the gate may leave out. */
const ABSENT = {
  workOrderId: null,
  model: null,
  queuePosition: null,
  outputUrl: null,
  partialOutput: null,
  delivery: null,
  prUrl: null,
  error: null,
  completedAt: null,
  cancelRequestedAt: null,
  canceledAt: null,
  retryOf: null,
} satisfies Partial<Run>

export type WireRun = Omit<Run, keyof typeof ABSENT> & Partial<Pick<Run, keyof typeof ABSENT>>

export const readRun = (wire: WireRun): Run => ({ ...ABSENT, ...wire })

export interface EventsParams {
  /** Only events with a higher `seq`. */
  after?: number
  /** Events per page, 1–100. Default 20; 100 when following. */
  limit?: number
}

export interface RetryRunRequest {
  /** Repeats the run although a write outside its workspace was, or may have been, made. */
  acceptEffects?: boolean
}

export class Runs {
  readonly artifacts: Artifacts
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.artifacts = new Artifacts(transport)
    this.#transport = transport
  }

  /** Starts an agent without a work order. */
  async create(request: CreateRunRequest, options?: RequestOptions): Promise<Run> {
    return readRun(await this.#transport.json({ method: 'POST', path: '/v1/runs', body: request }, options))
  }

  async get(id: string, options?: RequestOptions): Promise<Run> {
    return readRun(await this.#transport.json({ method: 'GET', path: runPath(id) }, options))
  }

  /** Newest first. */
  list(params: ListRunsParams = {}, options?: RequestOptions): PagePromise<Run> {
    return listPages(this.#transport, { path: '/v1/runs', query: params, read: readRun }, options)
  }

  /** Asks a run to stop. It is `canceled` only once the work has stopped; `wait` sees that moment. */
  async cancel(id: string, options?: RequestOptions): Promise<Run> {
    return readRun(await this.#transport.json({ method: 'POST', path: `${runPath(id)}/cancel` }, options))
  }

  /** A new run with the same input as this final one. */
  async retry(id: string, request: RetryRunRequest = {}, options?: RequestOptions): Promise<Run> {
    return readRun(
      await this.#transport.json({ method: 'POST', path: `${runPath(id)}/retry`, body: request }, options),
    )
  }

  /**
   * The run as soon as it is final or waits for a tool result or an approval.
   * Throws TimeoutError when `timeout` milliseconds have passed before; the run itself goes on.
   */
  wait(id: string, options: WaitOptions = {}): Promise<Run> {
    return waitForRun((getOptions) => this.get(id, getOptions), this.#transport, options)
  }

  /**
   * The run's events, oldest first. With `follow: true` the iteration waits for new events and ends after
   * the run's final one.
   */
  events(
    id: string,
    params: EventsParams & { follow: true },
    options?: RequestOptions,
  ): AsyncGenerator<RunEvent, void, undefined>
  events(
    id: string,
    params?: EventsParams & { follow?: false },
    options?: RequestOptions,
  ): PagePromise<RunEvent>
  events(
    id: string,
    params: EventsParams & { follow?: boolean } = {},
    options: RequestOptions = {},
  ): PagePromise<RunEvent> | AsyncGenerator<RunEvent, void, undefined> {
    const { follow, ...page } = params
    if (!follow) return this.#eventPages(id, page, options)
    const source = {
      eventsAfter: (after: number) => this.#eventPages(id, { limit: 100, ...page, after }, options),
      run: () => this.get(id, options),
      pause: (ms: number) => this.#transport.effects.pause(ms, options.signal),
    }
    return followEvents(source, page.after ?? 0)
  }

  #eventPages(id: string, query: EventsParams, options: RequestOptions): PagePromise<RunEvent> {
    return new PagePromise(async () => {
      const path = `${runPath(id)}/events`
      const answer = await this.#transport.json<PageFields<RunEvent>>({ method: 'GET', path, query }, options)
      const last = answer.data.at(-1)
      const more = answer.nextCursor !== null && last !== undefined
      return new Page(
        answer,
        more ? () => this.#eventPages(id, { ...query, after: last.seq }, options) : undefined,
      )
    })
  }
}

const runPath = (id: string): string => `/v1/runs/${segment(id)}`
