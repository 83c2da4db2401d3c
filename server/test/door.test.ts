import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Endpoint, endpointList } from '../src/contract/endpoints.ts'
import { newId } from '../src/lib/id.ts'
import { asked, type Door, openDoor } from './harness/door.ts'

/** The smallest body each endpoint takes; one with a required body that is missing here fails its own test. */
const BODIES: Readonly<Record<string, object>> = {
  createWorkOrder: { taskPrompt: 'x', workspaceSource: { type: 'git', repository: 'https://git.example/a' } },
  createRun: { agent: 'scripted', input: 'x' },
  createKey: { name: 'x' },
  createGitCredential: { host: 'git.example', kind: 'token', use: 'read', secret: 's' },
  grantCredits: { amountCents: 1 },
}

const guarded = endpointList.filter(({ scope }) => scope !== null)
const unguarded = endpointList.filter(({ scope }) => scope === null)
const withBody = guarded.filter(({ method }) => method === 'POST')
const withId = guarded.filter(({ ids }) => ids !== undefined)

/** A path with ids that have the right form and belong to nobody. */
const pathOf = ({ path, ids = {} }: Endpoint): string =>
  path.replaceAll(/\{(\w+)\}/g, (_, name: string) => (ids[name] ? newId(ids[name], 0) : 'diff.patch'))

const title = '$method $path'

let door: Door
beforeAll(async () => {
  door = await openDoor()
})
afterAll(() => door[Symbol.asyncDispose]())

const ask = (endpoint: Endpoint & { id: string }, how: Parameters<typeof asked>[1] = {}) =>
  asked(door.url + (how.path ?? pathOf(endpoint)), {
    method: endpoint.method,
    key: door.liveKey,
    ...(endpoint.method === 'POST' && { body: BODIES[endpoint.id] ?? {} }),
    ...how,
  })

describe.each(guarded)(title, (endpoint) => {
  test('a request without a key is refused', async () => {
    const { status, error, headers } = await ask(endpoint, { key: null })
    expect([status, error.code]).toEqual([401, 'MISSING_API_KEY'])
    expect(headers.get('www-authenticate')).toBe('Bearer')
  })

  test('a key that was never one is refused', async () => {
    const { status, error } = await ask(endpoint, { key: 'sk-something-else' })
    expect([status, error.code]).toEqual([401, 'INVALID_API_KEY_FORMAT'])
  })

  test('a key that does not exist is refused', async () => {
    const { status, error } = await ask(endpoint, { key: door.unknownKey })
    expect([status, error.code]).toEqual([401, 'INVALID_API_KEY'])
  })

  test('a revoked key and an expired key are refused', async () => {
    expect((await ask(endpoint, { key: door.revokedKey })).error.code).toBe('INVALID_API_KEY')
    expect((await ask(endpoint, { key: door.expiredKey })).error.code).toBe('EXPIRED_API_KEY')
  })

  test('a key with every scope but the one it takes is refused', async () => {
    const { status, error } = await ask(endpoint, { key: await door.keyWithout(endpoint.scope) })
    expect([status, error.code]).toEqual([403, 'INSUFFICIENT_PERMISSIONS'])
    expect(error.details.requiredScope).toBe(endpoint.scope)
    expect(error.details.availableScopes).not.toContain(endpoint.scope)
  })

  test('an answer carries its request id, its trace and the allowance it was counted against', async () => {
    const { headers } = await ask(endpoint, { headers: { 'x-request-id': 'mine-1' } })
    expect(headers.get('x-request-id')).toBe('mine-1')
    expect(headers.get('traceparent')).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/)
    expect(Number(headers.get('x-ratelimit-remaining'))).toBeLessThan(
      Number(headers.get('x-ratelimit-limit')),
    )
    expect(headers.get('ratelimit-policy')).toContain(`"${endpoint.bucket}";q=`)
  })

  test('an unknown query parameter is refused by its name', async () => {
    const path = `${pathOf(endpoint)}?colour=red`
    const { status, error } = await ask(endpoint, { path })
    expect([status, error.code]).toEqual([400, 'UNKNOWN_FIELD'])
    expect(error.details.errors).toMatchObject([{ field: 'colour' }])
  })

  test('a tenant’s key is let in only where tenants have business', async () => {
    const { status } = await ask(endpoint, { key: await door.tenantKey('acme') })
    if (endpoint.organizationOnly) expect(status).toBe(403)
    else expect(status).not.toBe(403)
  })
})

describe.each(withBody)(title, (endpoint) => {
  test('a body that is not JSON is refused', async () => {
    const { status, error } = await ask(endpoint, { raw: '{"a":' })
    expect([status, error.code]).toEqual([400, 'INVALID_REQUEST'])
  })

  test('a body that is not an object is refused', async () => {
    const { status } = await ask(endpoint, { raw: '[]' })
    expect(status).toBe(400)
  })

  test('a body of another media type is refused', async () => {
    const { status, error } = await ask(endpoint, { raw: 'a=1', headers: { 'content-type': 'text/plain' } })
    expect([status, error.code]).toEqual([415, 'UNSUPPORTED_MEDIA_TYPE'])
  })

  test('an unknown field is refused by its JSON pointer', async () => {
    const { status, error } = await ask(endpoint, { body: { ...BODIES[endpoint.id], 'co/lour': 'red' } })
    expect([status, error.code]).toEqual([400, 'UNKNOWN_FIELD'])
    expect(error.details.errors).toMatchObject([{ field: '/co~1lour' }])
  })

  test('a body over 1 MB is refused', async () => {
    const { status, error } = await ask(endpoint, { raw: JSON.stringify({ a: 'x'.repeat(1_100_000) }) })
    expect([status, error.code]).toEqual([413, 'PAYLOAD_TOO_LARGE'])
  })

  test('an Idempotency-Key that cannot be one is refused', async () => {
    const { status, error } = await ask(endpoint, { headers: { 'idempotency-key': 'k'.repeat(256) } })
    expect([status, error.code]).toEqual([400, 'INVALID_FORMAT'])
    expect(error.details.errors).toMatchObject([{ field: 'Idempotency-Key' }])
  })
})

describe.each(withId)(title, (endpoint) => {
  test('what does not exist and what is no id are answered alike', async () => {
    const missing = await ask(endpoint)
    const malformed = await ask(endpoint, {
      path: endpoint.path.replace('{id}', 'Nonsense').replace('{name}', 'x'),
    })
    expect([missing.status, missing.error.code]).toEqual([404, 'RESOURCE_NOT_FOUND'])
    expect([malformed.status, malformed.error.code]).toEqual([404, 'RESOURCE_NOT_FOUND'])
  })

  test('what belongs to another organisation, mode or tenant is not there', async () => {
    const path = endpoint.path
      .replace('{id}', await door.ownedId(endpoint.ids?.['id'] ?? ''))
      .replace('{name}', 'diff')
    for (const key of [door.strangerKey, door.testKey, await door.tenantKey('acme')]) {
      const { status } = await ask(endpoint, { path, key })
      expect(status).toBe(endpoint.organizationOnly && key.startsWith('ten_') ? 403 : 404)
    }
  })
})

describe.each(unguarded)(title, (endpoint) => {
  test('it answers without a key, and never with one of ours in it', async () => {
    const { status, text } = await ask(endpoint, { key: null })
    expect(status).toBe(200)
    expect(text).not.toMatch(/(?:org|ten)_(?:live|test)_[0-9a-z]{20}/)
  })
})

test('a path that does not exist is answered with the same envelope, key or not', async () => {
  for (const key of [null, door.liveKey]) {
    for (const method of ['GET', 'POST', 'DELETE', 'PATCH']) {
      const { status, error } = await asked(`${door.url}/v1/nothing`, {
        method,
        key,
        ...(method !== 'GET' && { body: {} }),
      })
      expect([status, error.code]).toEqual([404, 'RESOURCE_NOT_FOUND'])
      expect(error.requestId).toMatch(/^req_/)
    }
  }
})

test('a path that exists answers other methods with 405 and the ones there are', async () => {
  const { status, error, headers } = await asked(`${door.url}/v1/runs`, {
    method: 'PATCH',
    key: null,
    body: {},
  })
  expect([status, error.code]).toEqual([405, 'METHOD_NOT_ALLOWED'])
  expect(headers.get('allow')).toBe('POST, GET, HEAD')
})

test('a URL that cannot be read and bytes that are no HTTP are answered with the envelope', async () => {
  const { status, error } = await asked(`${door.url}/v1/runs/%E0%A4%A`, { key: door.liveKey })
  expect([status, error.code]).toEqual([404, 'RESOURCE_NOT_FOUND'])
  expect(await door.sendBytes('NONSENSE\r\n\r\n')).toMatch(
    /^HTTP\/1\.1 400 Bad Request[\s\S]*"code":"INVALID_REQUEST"/,
  )
})

test('errors come as RFC 9457 problems to whoever asks for them', async () => {
  const { status, headers, text } = await asked(`${door.url}/v1/runs`, {
    key: null,
    headers: { accept: 'application/problem+json' },
  })
  expect(headers.get('content-type')).toMatch(/^application\/problem\+json/)
  expect(JSON.parse(text)).toMatchObject({ status, type: '/docs#MISSING_API_KEY', code: 'MISSING_API_KEY' })
})
