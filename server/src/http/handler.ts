import type { TSchema } from '@sinclair/typebox'
import type { Endpoint, EndpointId, Endpoints } from '../contract/endpoints.ts'
import type { Static } from '../contract/schema.ts'
import type { Caller, IdempotencyMark } from './gateway.ts'

type Value<E, Part extends string> =
  E extends Readonly<Record<Part, infer S extends TSchema>> ? Static<S> : undefined

type ParamNames<Path extends string> = Path extends `${string}{${infer Name}}${infer Rest}`
  ? Name | ParamNames<Rest>
  : never

type Params<E extends Endpoint> = {
  readonly [Name in ParamNames<E['path']>]: E extends {
    ids: Readonly<Record<Name, infer Kind extends string>>
  }
    ? `${Kind}_${string}`
    : string
}

/** A request that has passed the door: known, allowed, counted and well formed. */
export interface Call<E extends Endpoint = Endpoint> {
  /** `null` where no key is asked for. */
  caller: E['scope'] extends null ? null : Caller
  params: Params<E>
  query: Value<E, 'query'>
  body: Value<E, 'body'>
  requestId: string
  traceparent: string
  accept: string
  /** When it came, in milliseconds since the epoch. */
  at: number
  /** From `Prefer: wait=N`; `null` where it was not asked for or is not honoured. */
  waitSeconds: number | null
  /** What makes this request the same as another; `null` without an `Idempotency-Key`. */
  mark: IdempotencyMark | null
  /** Aborts when the caller has gone or the server drains. */
  gone(): AbortSignal
}

export interface Answer {
  status: number
  /** Sent as JSON; with a `content-type` of its own among the headers it is text, bytes or a stream of them. */
  body?: unknown
  headers?: Readonly<Record<string, string>>
}

export type Handler<K extends EndpointId> = (call: Call<Endpoints[K]>) => Answer | Promise<Answer>

/** One handler for each endpoint of the table. */
export type Handlers = { readonly [K in EndpointId]: Handler<K> }
