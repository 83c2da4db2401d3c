/**
 * HTTP to addresses that others chose (webhook URLs, tools, forges).
 *
 * Owns: each connection to the outside made on somebody else's word.
 * Invariants: (1) a socket is opened only to an address that was checked, never to a name; (2) every request has its
 * own connection, so each one is checked; (3) no redirect is followed; (4) time and answer are bounded.
 * Leaves to others: what to send, when to send it again, and what an answer means.
 */
import type { Socket } from 'node:net'
import ipaddr from 'ipaddr.js'
import { Agent, buildConnector, request as send } from 'undici'
import {
  type AddressGuard,
  createAddressGuard,
  type OutboundRefused,
  type Resolve,
  refused,
} from './address-guard.ts'

export interface OutboundRequest {
  url: string
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  headers?: Record<string, string>
  body?: string | Uint8Array
  /** From the first look at the URL to the last byte of the answer. */
  timeoutMs: number
  maxAnswerBytes: number
  /** An answer past `maxAnswerBytes` is refused as `too_large` (the default) or cut there. */
  excess?: 'refuse' | 'cut'
  signal?: AbortSignal
}

export interface OutboundResponse {
  outcome: 'answered'
  status: number
  /** Lower-case names; repeated headers are joined with `, `. */
  headers: Record<string, string>
  body: Buffer
}

export type OutboundAnswer = OutboundResponse | OutboundRefused

export interface GuardedFetch extends AddressGuard {
  /** Never rejects: whatever the world does is an outcome. `https` only, except to listed addresses. */
  fetch: (request: OutboundRequest) => Promise<OutboundAnswer>
  /** Ends what is under way. */
  close(): Promise<void>
}

export interface GuardedFetchOptions {
  /** `CIDR`, `CIDR:port` or `host:port`; see `createAddressGuard`. */
  allowedPrivateRanges: readonly string[]
  /** For finding the addresses of a host, and again for connecting to all of them together. */
  connectTimeoutMs: number
  resolve?: Resolve
}

/** Carries a refusal out of the connector, through undici. */
class Refusal extends Error {
  readonly answer: OutboundRefused
  constructor(answer: OutboundRefused) {
    super(answer.message)
    this.answer = answer
  }
}

const REDIRECTS = new Set([301, 302, 303, 307, 308])

export function createGuardedFetch(options: GuardedFetchOptions): GuardedFetch {
  const guard = createAddressGuard(options.allowedPrivateRanges, options.resolve)
  const connect = checkingConnector(guard, options)
  const agent = new Agent({
    connect: (target, callback) => {
      connect(target).then(
        (socket) => callback(null, socket),
        (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), null),
      )
    },
    // undici's word for: no connection is used twice.
    pipelining: 0,
    headersTimeout: 0,
    bodyTimeout: 0,
  })
  return {
    checkHost: (host, port) => guard.checkHost(host, port),
    fetch: (request) => exchange(agent, request),
    close: () => agent.destroy(),
  }
}

async function exchange(agent: Agent, request: OutboundRequest): Promise<OutboundAnswer> {
  const url = URL.canParse(request.url) ? new URL(request.url) : undefined
  if (!url || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    return refused('scheme', 'The URL is not https:, or it carries a user name or password.')
  }
  const deadline = startDeadline(request)
  try {
    const response = await send(url, {
      dispatcher: agent,
      method: request.method,
      headers: request.headers ?? {},
      body: request.body ?? null,
      signal: deadline.signal,
    })
    const status = response.statusCode
    // Whatever ends the body early (a redirect, a cap) ends its connection; that error has been dealt with.
    response.body.on('error', () => undefined)
    if (REDIRECTS.has(status)) {
      response.body.destroy()
      return refused('redirect', `The receiver answered ${status}; redirects are not followed.`, status)
    }
    const body = await readUpTo(response.body, request.maxAnswerBytes)
    if (body.isCut && request.excess !== 'cut') {
      return refused('too_large', `The answer is larger than ${request.maxAnswerBytes} bytes.`, status)
    }
    return { outcome: 'answered', status, headers: joinedHeaders(response.headers), body: body.bytes }
  } catch (error) {
    if (deadline.isOver) return refused('timeout', `No complete answer within ${request.timeoutMs} ms.`)
    return asRefusal(error)
  } finally {
    deadline.clear()
  }
}

/** One signal for the time limit and the caller's own signal. (`AbortSignal.any` on a long-lived signal leaks.) */
function startDeadline({ timeoutMs, signal }: OutboundRequest) {
  const controller = new AbortController()
  const abort = (): void => controller.abort()
  const deadline = {
    signal: controller.signal,
    isOver: false,
    clear(): void {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
    },
  }
  const timer = setTimeout(() => {
    deadline.isOver = true
    abort()
  }, timeoutMs)
  if (signal?.aborted) abort()
  signal?.addEventListener('abort', abort, { once: true })
  return deadline
}

/** Connects to one of the checked addresses of the target's host; rejects with a `Refusal` or the last error. */
function checkingConnector(guard: AddressGuard, options: GuardedFetchOptions) {
  return async (target: buildConnector.Options): Promise<Socket> => {
    const isTls = target.protocol === 'https:'
    const port = Number(target.port || (isTls ? 443 : 80))
    const checked = await within(options.connectTimeoutMs, guard.checkHost(target.hostname, port))
    if (checked.outcome === 'refused') throw new Refusal(checked)
    if (!isTls && !checked.isListed) {
      throw new Refusal(refused('scheme', 'Plain http is allowed only to private ranges that are listed.'))
    }
    const open = buildConnector({ timeout: Math.ceil(options.connectTimeoutMs / checked.addresses.length) })
    let failure: unknown
    for (const address of checked.addresses) {
      try {
        return await openTo(address, (callback) => open({ ...target, hostname: address }, callback))
      } catch (error) {
        failure = error
      }
    }
    throw failure
  }
}

/** A look-up cannot be called off, only left alone. */
async function within<T>(ms: number, lookUp: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new Refusal(refused('timeout', 'The name was not resolved in time.'))),
      ms,
    )
  })
  try {
    return await Promise.race([lookUp, limit])
  } finally {
    clearTimeout(timer)
  }
}

function openTo(address: string, open: (callback: buildConnector.Callback) => void): Promise<Socket> {
  return new Promise((resolve, reject) => {
    open((...[error, socket]) => {
      if (error) return reject(error)
      if (isSameAddress(socket.remoteAddress, address)) return resolve(socket)
      socket.destroy()
      reject(new Refusal(refused('address', `The connection went to another address than ${address}.`)))
    })
  })
}

const isSameAddress = (actual: string | undefined, checked: string): boolean =>
  actual !== undefined && ipaddr.process(actual).toString() === ipaddr.process(checked).toString()

async function readUpTo(body: AsyncIterable<Buffer>, maxBytes: number) {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of body) {
    chunks.push(chunk)
    size += chunk.length
    if (size > maxBytes) return { bytes: Buffer.concat(chunks).subarray(0, maxBytes), isCut: true }
  }
  return { bytes: Buffer.concat(chunks), isCut: false }
}

const joinedHeaders = (headers: Record<string, string | string[] | undefined>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value ?? ''].flat().join(', ')]))

function asRefusal(error: unknown): OutboundRefused {
  if (error instanceof Refusal) return error.answer
  if (!(error instanceof Error)) return refused('network', 'The connection failed.')
  const code = 'code' in error && typeof error.code === 'string' ? error.code : error.name
  if (code === 'UND_ERR_CONNECT_TIMEOUT')
    return refused('timeout', 'The receiver did not accept the connection.')
  if (code === 'UND_ERR_HEADERS_OVERFLOW')
    return refused('too_large', 'The headers of the answer are too large.')
  return refused('network', `The connection failed (${code}).`)
}
