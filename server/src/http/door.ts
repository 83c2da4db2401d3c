import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Endpoint } from '../contract/endpoints.ts'
import { covers } from '../contract/scope.ts'
import { GateError, notFound } from '../domain/error.ts'
import { isId } from '../lib/id.ts'
import type { Caller, Gateway } from './gateway.ts'
import type { KeyRing } from './key-ring.ts'
import { limitHeaders, type RateLimits, type Standing } from './rate-limits.ts'
import { headerText, requestIdOf, traceparentOf } from './request-headers.ts'

/** What is known of a request while it is answered. */
export interface Visit {
  requestId: string
  traceparent: string
  /** On the monotonic clock. */
  arrivedAt: number
  caller: Caller | null
  standing: Standing | null
}

declare module 'fastify' {
  interface FastifyRequest {
    visit: Visit
  }
}

const SECURITY_HEADERS = {
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
}

/** Gives every request its names, also one that ends up nowhere. */
export function greet({ clock }: Gateway, request: FastifyRequest, reply: FastifyReply): void {
  const requestId = requestIdOf(headerText(request.headers['x-request-id']), clock.now())
  const traceparent = traceparentOf(headerText(request.headers['traceparent']))
  request.visit = { requestId, traceparent, arrivedAt: clock.monotonic(), caller: null, standing: null }
  reply.headers({ 'x-request-id': requestId, traceparent, ...SECURITY_HEADERS })
}

/** Lets in who may come in, before anything of the body is read. */
export class Door {
  readonly #gateway: Gateway
  readonly #keyRing: KeyRing
  readonly #limits: RateLimits

  constructor(gateway: Gateway, keyRing: KeyRing, limits: RateLimits) {
    this.#gateway = gateway
    this.#keyRing = keyRing
    this.#limits = limits
  }

  /** In this order: key, allowance, scope, form of the ids in the path. Throws the `GateError` of the first refusal. */
  async admit(endpoint: Endpoint, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    if (endpoint.scope === null) return
    const caller = await this.#keyRing.identify(request.headers.authorization)
    request.visit.caller = caller
    this.#count(endpoint, request.visit, reply)
    checkScope(endpoint, caller)
    for (const [name, kind] of Object.entries(endpoint.ids ?? {})) {
      const id = pathParameter(request, name)
      if (!isId(kind, id)) throw notFound(`${endpoint.tag.replace(/s$/, '')} ${id}`)
    }
  }

  /** What turned out to be unchanged costs nothing. */
  forgive({ visit }: FastifyRequest): void {
    if (visit.caller && visit.standing)
      this.#limits.giveBack(visit.caller.organizationId, visit.standing.bucket)
  }

  #count({ bucket }: Endpoint, visit: Visit, reply: FastifyReply): void {
    if (bucket === null || visit.caller === null) return
    const standing = this.#limits.take(visit.caller.organizationId, bucket)
    visit.standing = standing
    reply.headers(limitHeaders(standing, this.#gateway.clock.now()))
    if (standing.allowed) return
    reply.header('retry-after', String(standing.retryAfterSeconds))
    const { limit, remaining, resetAt } = standing
    throw new GateError('RATE_LIMITED', `More than ${limit} ${bucket} in a minute.`, {
      details: { limit, remaining, resetAt: new Date(resetAt).toISOString() },
      hint: `Try again in ${standing.retryAfterSeconds} s.`,
    })
  }
}

/** One segment of the path. */
export const pathParameter = ({ params }: FastifyRequest, name: string): string =>
  typeof params === 'object' && params !== null ? String(Reflect.get(params, name) ?? '') : ''

function checkScope({ scope, organizationOnly }: Endpoint, { scopes, tenantId }: Caller): void {
  if (scope === null) return
  const details = { requiredScope: scope, availableScopes: scopes }
  if (!covers(scopes, scope)) {
    throw new GateError('INSUFFICIENT_PERMISSIONS', `This needs a key with the scope ${scope}.`, { details })
  }
  if (organizationOnly && tenantId !== null) {
    const message = 'This belongs to the organisation; a key of a tenant has no business here.'
    throw new GateError('INSUFFICIENT_PERMISSIONS', message, { details })
  }
}
