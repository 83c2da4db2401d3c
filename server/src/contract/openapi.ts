import { type Endpoint, type EndpointId, endpointList, TAGS } from './endpoints.ts'
import { ErrorEnvelope, Problem } from './error.ts'
import type { TSchema } from './schema.ts'

type Json = { [key: string]: unknown }

/** Names given in the wire contract, for the document's head. */
const HEAD = {
  openapi: '3.1.0',
  info: {
    title: 'AgentGate',
    version: '1',
    summary: 'Turns any AI agent into a dependable API.',
    description:
      'Within `/v1` there are only additions: pass over fields, event types and reasons that you do not know. ' +
      'Bodies are strict: an unknown field is an error. Times are ISO 8601 UTC with milliseconds.',
    license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
  },
  servers: [{ url: '/', description: 'The server that answers this document.' }],
  security: [{ apiKey: [] }],
}

/** The whole API as OpenAPI 3.1. Schemas with a title become components. */
export function buildOpenApi(): Json {
  const components = new Components()
  const paths: { [path: string]: Json } = {}
  for (const endpoint of endpointList) {
    const path = paths[endpoint.path] ?? {}
    paths[endpoint.path] = { ...path, [endpoint.method.toLowerCase()]: operation(endpoint, components) }
  }
  const tags = Object.entries(TAGS).map(([name, description]) => ({ name, description }))
  return {
    ...HEAD,
    tags,
    paths,
    components: {
      schemas: components.schemas,
      responses: { Refused: refused(components) },
      headers: HEADERS,
      securitySchemes: {
        apiKey: { type: 'http', scheme: 'bearer', description: 'An organisation’s or a tenant’s key.' },
      },
    },
  }
}

/** Gathers named schemas while it replaces them by references. */
class Components {
  readonly schemas: { [name: string]: unknown } = {}

  place(schema: TSchema): unknown {
    const { title } = schema
    if (title === undefined) return this.#walk(schema)
    const body = this.#walk(schema)
    const known = this.schemas[title]
    if (known !== undefined && JSON.stringify(known) !== JSON.stringify(body)) {
      throw new Error(`two schemas are named ${title}`)
    }
    this.schemas[title] = body
    return { $ref: `#/components/schemas/${title}` }
  }

  #walk(schema: TSchema): unknown {
    const { discriminator, ...rest } = schema
    const plain = Object.fromEntries(
      Object.entries(rest).map(([keyword, value]) => [keyword, this.#value(keyword, value)]),
    )
    return discriminator === undefined ? plain : { ...plain, discriminator: mapped(discriminator, schema) }
  }

  #value(keyword: string, value: unknown): unknown {
    if (keyword === 'properties' || keyword === 'patternProperties') {
      return Object.fromEntries(
        Object.entries(value as Json).map(([name, one]) => [name, this.place(one as TSchema)]),
      )
    }
    if (keyword === 'items') return this.place(value as TSchema)
    if (keyword === 'oneOf') return (value as TSchema[]).map((one) => this.place(one))
    return value
  }
}

/** OpenAPI looks variants up by schema name unless it is told which word means which. */
function mapped(discriminator: { propertyName: string }, { oneOf }: TSchema): Json {
  const variants: TSchema[] = oneOf
  const { propertyName } = discriminator
  const mapping = Object.fromEntries(
    variants.map(({ title, properties }) => [
      properties[propertyName].const,
      `#/components/schemas/${title}`,
    ]),
  )
  return { propertyName, mapping }
}

function operation(endpoint: Endpoint & { id: EndpointId }, components: Components): Json {
  const { id, tag, summary, scope, body } = endpoint
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(scope === null ? { security: [] } : { description: `Needs a key with the scope \`${scope}\`.` }),
    ...(scope !== null && { 'x-scope': scope, 'x-rate-limit': endpoint.bucket }),
    parameters: parameters(endpoint, components),
    ...(body && { requestBody: { required: body.required !== undefined, content: json(body, components) } }),
    responses: responses(endpoint, components),
  }
}

const json = (schema: TSchema, components: Components): Json => ({
  'application/json': { schema: components.place(schema) },
})

function parameters(endpoint: Endpoint, components: Components): Json[] {
  const { path, query, waits, idempotent } = endpoint
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }))
  const inQuery = Object.entries(query?.properties ?? {}).map(([name, schema]) => {
    const { description, ...rest } = schema
    return { name, in: 'query', description, schema: components.place(rest) }
  })
  const byPattern = query?.['patternProperties'] === undefined ? [] : [METADATA_FILTER]
  return [
    ...inPath,
    ...inQuery,
    ...byPattern,
    ...(waits ? [PREFER] : []),
    ...(idempotent ? [IDEMPOTENCY_KEY] : []),
  ]
}

const METADATA_FILTER = {
  name: 'metadata',
  in: 'query',
  style: 'deepObject',
  explode: true,
  description: '`metadata[key]=value`: only runs whose metadata has this value.',
  schema: { type: 'object', additionalProperties: { type: 'string' } },
}

const PREFER = {
  name: 'Prefer',
  in: 'header',
  description: '`wait=N`: answer when the run is final or needs an action, or after N seconds (at most 60).',
  schema: { type: 'string' },
  example: 'wait=30',
}

const IDEMPOTENCY_KEY = {
  name: 'Idempotency-Key',
  in: 'header',
  description:
    'The same key and body get the same answer for 30 days; the same key with another body is refused.',
  schema: { type: 'string', minLength: 1, maxLength: 255 },
}

const header = (description: string, type: 'string' | 'integer' = 'string') => ({
  description,
  schema: { type },
})

const HEADERS = {
  RequestId: header('The request’s id: yours, or one made for it.'),
  RateLimitLimit: header('Requests per minute of the allowance that bound this one.', 'integer'),
  RateLimitRemaining: header('What is left of it.', 'integer'),
  RateLimitReset: header('When all of it is there again, in Unix seconds.', 'integer'),
  RetryAfter: header('Seconds to wait before sending the request again.', 'integer'),
}

const refer = (name: keyof typeof HEADERS) => ({ $ref: `#/components/headers/${name}` })

const ON_EVERY_ANSWER = { 'X-Request-Id': refer('RequestId') }

const COUNTED = {
  'X-RateLimit-Limit': refer('RateLimitLimit'),
  'X-RateLimit-Remaining': refer('RateLimitRemaining'),
  'X-RateLimit-Reset': refer('RateLimitReset'),
}

function responses({ answers, scope }: Endpoint, components: Components): Json {
  const headers = { ...ON_EVERY_ANSWER, ...(scope !== null && COUNTED) }
  const given = Object.entries(answers).map(([status, { description, body }]) => {
    if (body === undefined) return [status, { description, headers }]
    const content = 'json' in body ? json(body.json, components) : { [body.mediaType]: { schema: {} } }
    return [status, { description, headers, content }]
  })
  const refusals = { '4XX': REFUSED, '5XX': REFUSED }
  return { ...Object.fromEntries(given), ...refusals }
}

const REFUSED = { $ref: '#/components/responses/Refused' }

const refused = (components: Components): Json => ({
  description: 'The request was refused; `error.code` says why.',
  headers: { ...ON_EVERY_ANSWER, 'Retry-After': refer('RetryAfter') },
  content: {
    'application/json': { schema: components.place(ErrorEnvelope) },
    'application/problem+json': { schema: components.place(Problem) },
  },
})
