import { setMaxListeners } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { GateError, notFound } from '../domain/error.ts'
import { Totals } from '../storage/totals.ts'
import { Door, greet } from './door.ts'
import { asGateError, errorAnswer } from './errors.ts'
import type { Gateway } from './gateway.ts'
import type { Handlers } from './handler.ts'
import { parseJsonBody } from './json-body.ts'
import { KeyRing } from './key-ring.ts'
import { RateLimits } from './rate-limits.ts'
import { registerRoutes } from './router.ts'
import { artifactRoutes } from './routes/artifacts.ts'
import { creditRoutes } from './routes/credits.ts'
import { gitCredentialRoutes } from './routes/git-credentials.ts'
import { keyRoutes } from './routes/keys.ts'
import { operationRoutes, type Phase } from './routes/operations.ts'
import { runEventRoutes } from './routes/run-events.ts'
import { runRoutes } from './routes/runs.ts'
import { webhookSecretRoutes } from './routes/webhook-secret.ts'
import { workOrderRoutes } from './routes/work-orders.ts'

export interface HttpServer extends AsyncDisposable {
  /** Throws `GateError` CONFLICT, which names the port and the way out, when another program has it. */
  listen(address: { host: string; port: number }): Promise<{ url: string }>
  /** What `/readyz` says; a server begins as not ready. */
  ready(isReady: boolean): void
  /** Answers what has been asked, ends waits early, refuses the rest, and closes. */
  close(): Promise<void>
}

const MAX_BODY_BYTES = 1024 * 1024
const RECEIVE_WITHIN_MS = 30_000
const LATENCY_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60]

export function createHttpServer(gateway: Gateway): HttpServer {
  const draining = new AbortController()
  // Every request that waits listens to it.
  setMaxListeners(0, draining.signal)
  let isReady = false
  const phase = (): Phase => (draining.signal.aborted ? 'draining' : isReady ? 'ready' : 'starting')
  const keyRing = new KeyRing(gateway)
  const door = new Door(gateway, keyRing, new RateLimits(gateway.allowances, gateway.clock))
  const app = createApp(gateway)
  const handlers = allHandlers(gateway, keyRing, phase)
  refuseWhileDraining(app, draining.signal)
  watch(app, gateway)
  registerRoutes(app, { gateway, door, handlers, draining: draining.signal })

  const close = async (): Promise<void> => {
    draining.abort()
    await app.close()
    await keyRing.settle()
  }
  return {
    listen: (address) => listen(app, address),
    ready(value) {
      isReady = value
    },
    close,
    [Symbol.asyncDispose]: close,
  }
}

function allHandlers(gateway: Gateway, keyRing: KeyRing, phase: () => Phase): Handlers {
  const totals = new Totals(gateway.clock)
  return {
    ...workOrderRoutes(gateway, totals),
    ...runRoutes(gateway, totals),
    ...runEventRoutes(gateway),
    ...artifactRoutes(gateway),
    ...keyRoutes(gateway, keyRing),
    ...gitCredentialRoutes(gateway),
    ...creditRoutes(gateway, totals),
    ...webhookSecretRoutes(gateway),
    ...operationRoutes(gateway, phase),
  }
}

/** Without the framework's own logs, checks and error answers: all of these are ours. */
function createApp(gateway: Gateway): FastifyInstance {
  const fail = (thrown: unknown, request: FastifyRequest, reply: FastifyReply): void => {
    // A bad URL fails before any hook has run.
    if (!request.visit) greet(gateway, request, reply)
    refuse(gateway, asGateError(thrown), { request, reply })
  }
  const app = Fastify({
    logger: false,
    bodyLimit: MAX_BODY_BYTES,
    requestTimeout: RECEIVE_WITHIN_MS,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 512 },
    frameworkErrors: fail,
    clientErrorHandler: refuseUnreadable,
  })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'string' },
    async (_request: unknown, text: string) => parseJsonBody(text),
  )
  app.addHook('onRequest', async (request, reply) => {
    greet(gateway, request, reply)
    if (request.is404) throw notFound(`${request.method} ${request.url.split('?')[0]}`)
  })
  app.setErrorHandler(fail)
  app.setNotFoundHandler((request, reply) => fail(notFound(request.method), request, reply))
  return app
}

function refuse(
  { log }: Gateway,
  error: GateError,
  { request, reply }: { request: FastifyRequest; reply: FastifyReply },
): void {
  const { requestId } = request.visit
  if (error.kind === 'internal')
    log.error({ err: error.cause ?? error, requestId }, 'A request met a bug of ours.')
  const accept = request.headers.accept ?? ''
  const { status, headers, body } = errorAnswer(error, { requestId, accept })
  for (const [name, value] of Object.entries(headers)) if (!reply.hasHeader(name)) reply.header(name, value)
  reply
    .code(status)
    .header('cache-control', 'no-store')
    .header('content-type', headers['content-type'])
    .send(body)
}

/** Bytes that are no HTTP never become a request; they get an answer all the same. */
function refuseUnreadable(_error: Error, socket: Socket): void {
  if (!socket.writable) return
  const error = new GateError('INVALID_REQUEST', 'This is not HTTP that can be read.')
  const { body } = errorAnswer(error, { requestId: '', accept: '' })
  const head = `HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(body)}`
  socket.end(`${head}\r\n\r\n${body}`)
}

/** Health checks go on until the end; everybody else is sent to another process. */
function refuseWhileDraining(app: FastifyInstance, draining: AbortSignal): void {
  app.addHook('onRequest', async (request) => {
    if (!draining.aborted || !request.url.startsWith('/v1/')) return
    throw new GateError('SERVICE_UNAVAILABLE', 'This server is stopping.', {
      hint: 'Send the request again.',
    })
  })
  app.addHook('onSend', async (_request, reply) => {
    if (draining.aborted) reply.header('connection', 'close')
  })
}

/** One line and two figures for every answer; never what was said. */
function watch(app: FastifyInstance, { log, metrics, clock }: Gateway): void {
  const requests = metrics.counter('agentgate_http_requests_total', 'Answered requests.')
  const seconds = metrics.histogram('agentgate_http_request_seconds', 'Time to answer.', LATENCY_SECONDS)
  app.addHook('onResponse', async (request, reply) => {
    const { requestId, arrivedAt, caller } = request.visit
    const route = request.routeOptions.url ?? 'none'
    const { method } = request
    const status = reply.statusCode
    const ms = clock.monotonic() - arrivedAt
    requests.add({ method, route, status: String(status) })
    seconds.observe(ms / 1000, { method, route })
    const who = caller && { organizationId: caller.organizationId, keyId: caller.keyId }
    log.info({ requestId, method, route, status, ms: Math.round(ms), ...who }, 'A request was answered.')
  })
}

async function listen(
  app: FastifyInstance,
  { host, port }: { host: string; port: number },
): Promise<{ url: string }> {
  try {
    await app.listen({ host, port })
  } catch (cause) {
    if (!(cause instanceof Error) || !('code' in cause) || cause.code !== 'EADDRINUSE') throw cause
    throw new GateError('CONFLICT', `Port ${port} on ${host} is in use by another program.`, {
      hint: 'Stop that program, or choose another port with PORT (0 takes a free one).',
      details: { host, port },
      cause,
    })
  }
  const address = app.server.address()
  return {
    url:
      urlOf(host, address !== null && typeof address === 'object' ? address : null) ??
      `http://${host}:${port}`,
  }
}

/** An address that means all interfaces is reached by the loopback one. */
function urlOf(host: string, address: AddressInfo | null): string | undefined {
  if (address === null) return undefined
  const reachable = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${address.port}`
}
