import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Endpoint, type EndpointId, endpointList } from '../contract/endpoints.ts'
import { closed } from '../contract/schema.ts'
import { GateError } from '../domain/error.ts'
import { canonicalJson, sha256 } from '../lib/hash.ts'
import { inCamelCase } from './aliases.ts'
import { type Door, pathParameter } from './door.ts'
import type { Gateway, IdempotencyMark } from './gateway.ts'
import type { Answer, Call, Handlers } from './handler.ts'
import { headerText, idempotencyKeyOf, isMatch, waitOf } from './request-headers.ts'
import { bodyCheck, type Check, queryCheck } from './validation.ts'

export interface Routing {
  gateway: Gateway
  door: Door
  handlers: Handlers
  /** Aborts when the server drains. */
  draining: AbortSignal
}

type AnyHandler = (call: Call) => Answer | Promise<Answer>

const NOTHING = closed({})

/** Registers every endpoint of the table, and 405 for the other methods of its paths. */
export function registerRoutes(app: FastifyInstance, routing: Routing): void {
  const { offers } = routing.gateway
  const offered = endpointList.filter(({ path }) => offers === 'everything' || WORKER_PATHS.has(path))
  for (const endpoint of offered) registerEndpoint(app, endpoint, routing)
  for (const [path, methods] of methodsByPath(offered)) {
    const others = ALL_METHODS.filter((method) => !methods.includes(method))
    const allow = methods.join(', ')
    app.route({
      method: others,
      url: fastifyPath(path),
      async onRequest(request) {
        const message = `${request.method} is not possible here; there is ${allow}.`
        throw new GateError('METHOD_NOT_ALLOWED', message, { details: { allow } })
      },
      handler: () => undefined,
    })
  }
}

const WORKER_PATHS: ReadonlySet<string> = new Set(['/healthz', '/readyz', '/metrics'])

const ALL_METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

function methodsByPath(endpoints: typeof endpointList): Map<string, string[]> {
  const methods = new Map<string, string[]>()
  for (const { method, path } of endpoints) {
    methods.set(path, [...(methods.get(path) ?? []), ...(method === 'GET' ? ['GET', 'HEAD'] : [method])])
  }
  return methods
}

const fastifyPath = (path: string): string => path.replaceAll(/\{(\w+)\}/g, ':$1')

function registerEndpoint(
  app: FastifyInstance,
  endpoint: Endpoint & { id: EndpointId },
  routing: Routing,
): void {
  const checkQuery = queryCheck(endpoint.query ?? NOTHING)
  const checkBody = endpoint.method === 'POST' ? bodyCheck(endpoint.body ?? NOTHING) : undefined
  // The table's types tie a handler to its own endpoint; here every endpoint is treated alike.
  const handle = routing.handlers[endpoint.id] as AnyHandler
  const names = [...endpoint.path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => name)
  app.route({
    method: endpoint.method,
    url: fastifyPath(endpoint.path),
    onRequest: (request, reply) => routing.door.admit(endpoint, request, reply),
    async handler(request, reply) {
      checkQuery(request.query)
      const body = checkBody && readBody(endpoint, request, checkBody)
      const answer = await handle(callOf(endpoint, request, { reply, routing, body, names }))
      return send(answer, { request, reply, door: routing.door })
    },
  })
}

function readBody(endpoint: Endpoint, request: FastifyRequest, check: Check): unknown {
  const given = request.body ?? {}
  const body = endpoint.aliases && endpoint.body ? inCamelCase(given, endpoint.body) : given
  check(body)
  return body
}

function callOf(
  endpoint: Endpoint,
  request: FastifyRequest,
  { reply, routing, body, names }: { reply: FastifyReply; routing: Routing; body: unknown; names: string[] },
): Call {
  const { visit, headers } = request
  const params = Object.fromEntries(names.map((name) => [name, pathParameter(request, name)]))
  const call = {
    caller: visit.caller,
    params,
    query: request.query,
    body,
    requestId: visit.requestId,
    traceparent: visit.traceparent,
    accept: headers.accept ?? '',
    at: routing.gateway.clock.now(),
    waitSeconds: endpoint.waits ? waitOf(headerText(headers['prefer'])) : null,
    mark: endpoint.idempotent ? markOf(request, body) : null,
    gone: () => goneSignal(reply, routing.draining),
  }
  // The door has let the caller in, and the checks above have made query and body what the table says.
  return call as Call
}

function markOf(request: FastifyRequest, body: unknown): IdempotencyMark | null {
  const key = idempotencyKeyOf(headerText(request.headers['idempotency-key']))
  if (key === null) return null
  const [path] = request.url.split('?')
  const tenantId = request.visit.caller?.tenantId ?? ''
  return { route: `${request.method} ${path}`, key, bodyHash: sha256(canonicalJson(body)), tenantId }
}

function goneSignal(reply: FastifyReply, draining: AbortSignal): AbortSignal {
  const gone = new AbortController()
  const leave = (): void => gone.abort('the caller has gone')
  if (draining.aborted || reply.raw.destroyed) leave()
  draining.addEventListener('abort', leave)
  reply.raw.once('close', () => {
    draining.removeEventListener('abort', leave)
    leave()
  })
  return gone.signal
}

function send(
  { status, body, headers = {} }: Answer,
  { request, reply, door }: { request: FastifyRequest; reply: FastifyReply; door: Door },
): FastifyReply {
  reply.code(status)
  if (status === 204) return reply.send()
  const isOwn = 'content-type' in headers
  const payload = isOwn ? body : JSON.stringify(body)
  if (!isOwn) reply.type('application/json; charset=utf-8')
  const isRead = request.method === 'GET' || request.method === 'HEAD'
  if (request.visit.caller !== null) reply.header('cache-control', isRead ? 'private, no-cache' : 'no-store')
  reply.headers(headers)
  if (status !== 200 || !isRead) return reply.send(payload)
  const etag =
    headers['etag'] ?? (typeof payload === 'string' ? `"${sha256(payload).slice(0, 32)}"` : undefined)
  if (etag === undefined) return reply.send(payload)
  reply.header('etag', etag)
  if (!isMatch(headerText(request.headers['if-none-match']), etag)) return reply.send(payload)
  door.forgive(request)
  reply.removeHeader('content-length')
  return reply.code(304).send()
}
