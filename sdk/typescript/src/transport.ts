import { connectOptions } from './connect.ts'
import { AgentGateError, ConnectionError, errorFromAnswer, TimeoutError } from './errors.ts'
import { UnsettledKeys } from './idempotency.ts'
import { isUnsettled, retryDelayMs } from './retry.ts'
import { VERSION } from './version.ts'

/** Options every method takes as its last argument. */
export interface RequestOptions {
  /** Ends the call, retries included; it rejects with the signal's reason. */
  signal?: AbortSignal | undefined
  /** Milliseconds one attempt may take, its answer's body included. Default: the client's. */
  timeout?: number | undefined
  /** How often a failed attempt is repeated. Default: the client's. */
  maxRetries?: number | undefined
  /** Sent as `Idempotency-Key` instead of the automatic one; 1–255 characters. POST only. */
  idempotencyKey?: string | undefined
  /** Added to the request; they win over the SDK's own. */
  headers?: Record<string, string> | undefined
}

/** One thing to ask of the gate. */
export interface GateRequest {
  method: 'GET' | 'POST' | 'DELETE'
  /** Begins with `/v1/`. */
  path: string
  /** Undefined members are left out; a record becomes `name[key]=value`. */
  query?: object | undefined
  /** The caller's own object: automatic idempotency keys are remembered by its identity. */
  body?: object | undefined
}

export interface GateAnswer {
  headers: Headers
  body: Uint8Array
}

export interface TransportSettings {
  apiKey: string
  /** Without a trailing slash. */
  baseUrl: string
  timeoutMs: number
  /** Part of `timeoutMs`; kept only by the runtime's own fetch. */
  connectTimeoutMs: number
  maxRetries: number
  /** The program's own fetch; without it, the runtime's. */
  fetch: typeof fetch | undefined
}

/** What a test replaces to see retries without waiting for them. */
export interface TransportEffects {
  /** Milliseconds from an arbitrary start. */
  monotonic: () => number
  /** In [0, 1). */
  random: () => number
  pause: (ms: number, signal: AbortSignal | undefined) => Promise<void>
}

/** A longer timer would fire at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1

/** No repeat starts later than this after the first failure; a longer `Retry-After` is left to the caller. */
const RETRY_WINDOW_MS = 60_000

const SYSTEM: TransportEffects = {
  monotonic: () => performance.now(),
  random: Math.random,
  pause,
}

/** Sends requests: keys, timeouts, retries and errors are decided here, once, for all resources. */
export class Transport {
  readonly settings: TransportSettings
  readonly effects: TransportEffects
  readonly #keys = new UnsettledKeys()

  constructor(settings: TransportSettings, effects: TransportEffects = SYSTEM) {
    this.settings = settings
    this.effects = effects
  }

  /** The answer's JSON. `T` is what the wire contract promises for this path. */
  async json<T>(request: GateRequest, options: RequestOptions = {}): Promise<T> {
    const answer = await this.send(request, options)
    const text = new TextDecoder().decode(answer.body)
    try {
      return JSON.parse(text) as T
    } catch (cause) {
      const place = `${request.method} ${this.settings.baseUrl}${request.path}`
      throw new AgentGateError(`${place} did not answer with JSON; is baseUrl the gate's address?`, { cause })
    }
  }

  /** The answer as it came, after retries. Anything outside 2xx is thrown. */
  async send(request: GateRequest, options: RequestOptions = {}): Promise<GateAnswer> {
    const url = this.settings.baseUrl + request.path + queryString(request.query)
    const body = request.body === undefined ? undefined : JSON.stringify(request.body)
    const headers = this.#headers(request, options)
    if (request.method !== 'POST' || headers.has('idempotency-key')) {
      return this.#attempts(url, { method: request.method, headers, body }, options)
    }
    const sent = { place: request.path, body: body ?? '' }
    const key = this.#keys.take(request.body, sent.place, sent.body)
    headers.set('idempotency-key', key)
    try {
      return await this.#attempts(url, { method: request.method, headers, body }, options)
    } catch (error) {
      if (isUnsettled(error)) this.#keys.keep(request.body, { key, ...sent })
      throw error
    }
  }

  async #attempts(url: string, init: Attempt, options: RequestOptions): Promise<GateAnswer> {
    const { monotonic, random } = this.effects
    const maxRetries = options.maxRetries ?? this.settings.maxRetries
    let windowEnd: number | undefined
    for (let repeat = 1; ; repeat++) {
      try {
        return await this.#attempt(url, init, options)
      } catch (error) {
        windowEnd ??= monotonic() + RETRY_WINDOW_MS
        const delay = repeat > maxRetries ? undefined : retryDelayMs(error, repeat, random())
        if (delay === undefined || monotonic() + delay > windowEnd) throw error
        await this.effects.pause(delay, options.signal)
      }
    }
  }

  async #attempt(url: string, init: Attempt, options: RequestOptions): Promise<GateAnswer> {
    const timeoutMs = options.timeout ?? this.settings.timeoutMs
    const { signal } = options
    signal?.throwIfAborted()
    const controller = new AbortController()
    const abort = () => controller.abort()
    const timer = setTimeout(abort, Math.min(timeoutMs, LONGEST_TIMER_MS))
    signal?.addEventListener('abort', abort)
    let response: Response
    let body: Uint8Array
    try {
      response = await this.#fetch(url, { ...init, signal: controller.signal })
      body = new Uint8Array(await response.arrayBuffer())
    } catch (cause) {
      signal?.throwIfAborted()
      if (controller.signal.aborted) throw new TimeoutError(`No answer from ${url} within ${timeoutMs} ms.`)
      throw connectionError(url, cause)
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
    }
    if (!response.ok) throw errorFromAnswer(response.status, response.headers, new TextDecoder().decode(body))
    return { headers: response.headers, body }
  }

  #fetch(url: string, init: Attempt & { signal: AbortSignal }): Promise<Response> {
    // A redirect would turn a POST into a GET; the gate never sends one.
    const { body, ...rest } = { ...init, redirect: 'manual' as const }
    const complete = body === undefined ? rest : { ...rest, body }
    return this.settings.fetch
      ? this.settings.fetch(url, complete)
      : fetch(url, { ...complete, ...connectOptions(this.settings.connectTimeoutMs) })
  }

  #headers(request: GateRequest, options: RequestOptions): Headers {
    const headers = new Headers({
      accept: 'application/json',
      authorization: `Bearer ${this.settings.apiKey}`,
      'user-agent': `agentgate-sdk-typescript/${VERSION}`,
    })
    if (request.body !== undefined) headers.set('content-type', 'application/json')
    if (options.idempotencyKey !== undefined) headers.set('idempotency-key', options.idempotencyKey)
    for (const [name, value] of Object.entries(options.headers ?? {})) headers.set(name, value)
    return headers
  }
}

interface Attempt {
  method: string
  headers: Headers
  body: string | undefined
}

/** Waits; rejects with the signal's reason as soon as it is aborted. */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop)
      resolve()
    }, ms)
    if (signal?.aborted) stop()
    else signal?.addEventListener('abort', stop, { once: true })
  })
}

function queryString(query: object | undefined): string {
  const params = new URLSearchParams()
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value === undefined) continue
    if (value instanceof Date) params.append(name, value.toISOString())
    else if (typeof value !== 'object') params.append(name, String(value))
    else
      for (const [key, member] of Object.entries(value ?? {}))
        params.append(`${name}[${key}]`, String(member))
  }
  return params.size === 0 ? '' : `?${params.toString()}`
}

/** Node's fetch says only "fetch failed"; what happened is in its cause. */
function connectionError(url: string, failure: unknown): ConnectionError {
  const cause = failure instanceof Error && failure.cause instanceof Error ? failure.cause : failure
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
  const Class = code === 'UND_ERR_CONNECT_TIMEOUT' ? TimeoutError : ConnectionError
  const reason = cause instanceof Error ? cause.message || code : String(cause)
  return new Class(`No answer from ${url}: ${reason}`, { cause: failure })
}
