import { once } from 'node:events'
import { createServer as createSocketServer } from 'node:net'
import { afterEach, describe, expect, test, vi } from 'vitest'
import manifest from '../package.json' with { type: 'json' }
import {
  AgentGate,
  AgentGateError,
  APIError,
  ConnectionError,
  RateLimitError,
  TimeoutError,
  VERSION,
} from '../src/index.ts'
import { Runs } from '../src/resources/runs.ts'
import { Transport } from '../src/transport.ts'
import { refusal, type Script, startScriptedServer } from './scripted-server.ts'

const ok = (body: unknown, headers: Record<string, string> = {}): Script => ({ status: 200, headers, body })
const clientOf = (server: { url: string }, options: object = {}): AgentGate =>
  new AgentGate({ apiKey: 'org_test_1', baseUrl: server.url, ...options })

afterEach(() => {
  vi.unstubAllEnvs()
})

describe('the client', () => {
  test('takes key and address from the environment', async () => {
    await using server = await startScriptedServer(ok({ totalCreditsCents: 5 }))
    vi.stubEnv('AGENTGATE_API_KEY', 'org_test_env')
    vi.stubEnv('AGENTGATE_BASE_URL', `${server.url}/`)

    await expect(new AgentGate().credits.get()).resolves.toEqual({ totalCreditsCents: 5 })
    expect(server.seen[0]).toMatchObject({
      method: 'GET',
      path: '/v1/credits',
      headers: { authorization: 'Bearer org_test_env', 'user-agent': `agentgate-sdk-typescript/${VERSION}` },
    })
  })

  test.each([
    [{ baseUrl: 'http://127.0.0.1:1' }, 'AGENTGATE_API_KEY'],
    [{ apiKey: 'org_test_1' }, 'AGENTGATE_BASE_URL'],
    [{ apiKey: 'org_test_1', baseUrl: 'gate.example' }, 'http://'],
    [{ apiKey: 'org_test_1', baseUrl: 'http://me:secret@gate.example' }, 'credentials'],
  ])('says what is missing or wrong: %#', (options, word) => {
    vi.stubEnv('AGENTGATE_API_KEY', '')
    vi.stubEnv('AGENTGATE_BASE_URL', '')
    expect(() => new AgentGate(options)).toThrow(AgentGateError)
    expect(() => new AgentGate(options)).toThrow(word)
  })

  test('keeps a path in the address and knows retries as another name of maxRetries', async () => {
    await using server = await startScriptedServer({ status: 500 })
    const client = new AgentGate({ apiKey: 'k', baseUrl: `${server.url}/gate/`, retries: 0 })

    await expect(client.runs.get('run_1')).rejects.toBeInstanceOf(APIError)
    expect(server.seen.map((request) => request.path)).toEqual(['/gate/v1/runs/run_1'])
  })

  test('uses the fetch it is given', async () => {
    const seen: string[] = []
    const client = new AgentGate({
      apiKey: 'k',
      baseUrl: 'http://gate.example',
      fetch: async (url) => {
        seen.push(url instanceof Request ? url.url : url.toString())
        return Response.json({ totalCreditsCents: 1 })
      },
    })
    await client.credits.get()
    expect(seen).toEqual(['http://gate.example/v1/credits'])
  })

  test('sends the headers of one call', async () => {
    await using server = await startScriptedServer(ok({}))
    await clientOf(server).runs.get('run_1', { headers: { 'X-Request-Id': 'mine', Prefer: 'wait=5' } })
    expect(server.seen[0]?.headers).toMatchObject({ 'x-request-id': 'mine', prefer: 'wait=5' })
  })

  test('does not let an id reach another endpoint', async () => {
    await using server = await startScriptedServer(ok({}))
    const client = clientOf(server)
    await client.runs.get('run_1/../../credits?x=#')
    expect(server.seen[0]?.path).toBe('/v1/runs/run_1%2F..%2F..%2Fcredits%3Fx%3D%23')
    await expect(client.runs.get('..')).rejects.toThrow(TypeError)
  })

  test('knows its own version', () => {
    expect(VERSION).toBe(manifest.version)
  })
})

describe('errors', () => {
  test('carry what the gate said', async () => {
    const answer = refusal(402, 'INSUFFICIENT_CREDITS', { details: { required: 50 }, hint: 'Add credits.' })
    await using server = await startScriptedServer(answer)

    const error: unknown = await clientOf(server)
      .runs.get('run_1')
      .catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({
      name: 'InsufficientCreditsError',
      status: 402,
      code: 'INSUFFICIENT_CREDITS',
      message: 'It is INSUFFICIENT_CREDITS.',
      details: { required: 50 },
      requestId: 'req_1',
      retryable: false,
      hint: 'Add credits.',
    })
    expect(error instanceof APIError && error.headers.get('content-type')).toBe('application/json')
  })

  test.each<[string, number | undefined]>([
    ['90', 90_000],
    ['1.5', 1_500],
    ['soon', undefined],
    ['Thu, 01 Jan 1970 00:00:00 GMT', 0],
  ])('of rate limits give Retry-After %s in milliseconds', async (value, ms) => {
    await using server = await startScriptedServer({ status: 429, headers: { 'retry-after': value } })
    const error: unknown = await clientOf(server, { maxRetries: 0 })
      .runs.get('run_1')
      .catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(RateLimitError)
    expect(error).toHaveProperty('retryAfter', ms)
  })

  test('are usable when something else than the gate answered', async () => {
    await using server = await startScriptedServer(
      { text: '<h1>Bad Gateway</h1>', status: 502, headers: { 'x-request-id': 'proxy_1' } },
      { text: '<h1>Welcome</h1>' },
    )
    const client = clientOf(server, { maxRetries: 0 })

    await expect(client.runs.get('run_1')).rejects.toMatchObject({
      name: 'ServerError',
      code: 'HTTP_502',
      requestId: 'proxy_1',
      retryable: true,
    })
    await expect(client.runs.get('run_1')).rejects.toThrow('is baseUrl the gate')
  })

  test('name the reason when nobody listens', async () => {
    const client = new AgentGate({ apiKey: 'k', baseUrl: 'http://127.0.0.1:1', maxRetries: 0 })
    await expect(client.runs.get('run_1')).rejects.toBeInstanceOf(ConnectionError)
    await expect(client.runs.get('run_1')).rejects.toThrow('/v1/runs/run_1')
  })
})

describe('time', () => {
  test('an attempt without an answer ends after its timeout', async () => {
    await using server = await startScriptedServer({ hang: true }, { hang: true })
    await expect(clientOf(server, { timeout: 30, maxRetries: 0 }).runs.get('run_1')).rejects.toBeInstanceOf(
      TimeoutError,
    )
    await expect(clientOf(server).runs.get('run_1', { timeout: 30, maxRetries: 0 })).rejects.toBeInstanceOf(
      ConnectionError,
    )
  })

  test('a connection that is never made ends after the connect timeout', async () => {
    const silent = createSocketServer()
    silent.listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const address = silent.address()
    const port = typeof address === 'object' ? address?.port : undefined
    const baseUrl = `https://127.0.0.1:${port}` // the handshake of TLS gets no answer
    const settings = { apiKey: 'k', baseUrl, timeoutMs: 10_000, connectTimeoutMs: 100, maxRetries: 0 }
    const runs = new Runs(new Transport({ ...settings, fetch: undefined }))

    await expect(runs.get('run_1')).rejects.toThrow(/Connect Timeout/i)
    await expect(runs.get('run_1')).rejects.toBeInstanceOf(TimeoutError)
    silent.close()
  })

  test('an aborted call ends at once, in a request and between two', async () => {
    await using server = await startScriptedServer(
      { hang: true },
      { status: 503, headers: { 'retry-after': '50' } },
    )
    const reason = new Error('the user left')
    const abortedAfter = async (requests: number, maxRetries: number) => {
      const controller = new AbortController()
      const call = clientOf(server, { maxRetries }).runs.get('run_1', { signal: controller.signal })
      await vi.waitUntil(() => server.seen.length === requests)
      controller.abort(reason)
      await expect(call).rejects.toBe(reason)
    }
    await abortedAfter(1, 0)
    await abortedAfter(2, 3)
    await expect(clientOf(server).runs.get('run_1', { signal: AbortSignal.abort(reason) })).rejects.toBe(
      reason,
    )
    expect(server.seen).toHaveLength(2)
  })
})

describe('lists', () => {
  const pages = [
    ok({ data: [{ id: 'run_3' }, { id: 'run_2' }], nextCursor: 'c1', total: 3, limit: 2, offset: 0 }),
    ok({ data: [{ id: 'run_1' }], nextCursor: null }),
  ]

  test('iterate through all pages by cursor', async () => {
    await using server = await startScriptedServer(...pages)
    const ids: string[] = []
    const params = { limit: 2, offset: 0, createdAfter: new Date(0), metadata: { team: 'a b' } }
    for await (const run of clientOf(server).runs.list(params)) ids.push(run.id)

    expect(ids).toEqual(['run_3', 'run_2', 'run_1'])
    const filter = 'createdAfter=1970-01-01T00%3A00%3A00.000Z&metadata%5Bteam%5D=a+b'
    expect(server.seen.map((request) => request.path)).toEqual([
      `/v1/runs?limit=2&offset=0&${filter}`,
      `/v1/runs?limit=2&${filter}&after=c1`,
    ])
  })

  test('give the first page when awaited, and each next one when asked', async () => {
    await using server = await startScriptedServer(...pages)
    const list = clientOf(server).runs.list()
    expect(server.seen).toHaveLength(0)

    const page = await list
    expect(page).toMatchObject({ total: 3, totalCapped: false, nextCursor: 'c1' })
    expect(page.data[0]).toMatchObject({ id: 'run_3', prUrl: null, error: null })
    const next = await page.getNextPage()
    expect(next?.data.map((run) => run.id)).toEqual(['run_1'])
    expect(next?.hasNextPage()).toBe(false)
    expect(await next?.getNextPage()).toBeUndefined()
    await list
    expect(server.seen).toHaveLength(2)
  })

  test('reject as promises do', async () => {
    await using server = await startScriptedServer(refusal(400, 'INVALID_VALUE'))
    const list = clientOf(server).runs.list()
    expect(await list.catch((error: unknown) => error)).toMatchObject({ code: 'INVALID_VALUE' })
    await expect(list.finally(() => undefined)).rejects.toMatchObject({ status: 400 })
  })

  test('of credit usage go on by offset', async () => {
    await using server = await startScriptedServer(
      ok({ transactions: [{ id: 'txn_3' }, { id: 'txn_2' }], total: 3, limit: 2, offset: 0 }),
      ok({ transactions: [{ id: 'txn_1' }], total: 3, limit: 2, offset: 2 }),
    )
    const ids: string[] = []
    const usage = clientOf(server).credits.usage.list({ limit: 2, type: 'grant' })
    for await (const transaction of usage) ids.push(transaction.id)
    expect(ids).toEqual(['txn_3', 'txn_2', 'txn_1'])
    expect(server.seen[1]?.path).toBe('/v1/credits/usage?limit=2&type=grant&offset=2')
  })
})

describe('the other endpoints', () => {
  test('are asked as the contract says', async () => {
    const answers = Array.from({ length: 10 }, () => ok({}))
    await using server = await startScriptedServer(...answers)
    const client = clientOf(server)
    await client.runs.create({ agent: 'scripted', input: 'hello' })
    await client.runs.retry('run_1', { acceptEffects: true })
    await client.workOrders.get('wo_1')
    await client.credits.grants.create({ amountCents: 500 })
    await client.keys.create({ scopes: ['runs:read'] })
    await client.keys.revoke('key_1')
    await client.gitCredentials.create({ host: 'git.example', kind: 'token', use: 'publish', secret: 's' })
    await client.gitCredentials.delete('cred_1')
    await client.webhookSecret.get()
    await client.webhookSecret.rotate({ finish: true })

    expect(server.seen.map(({ method, path, body }) => `${method} ${path} ${body}`)).toEqual([
      'POST /v1/runs {"agent":"scripted","input":"hello"}',
      'POST /v1/runs/run_1/retry {"acceptEffects":true}',
      'GET /v1/work-orders/wo_1 ',
      'POST /v1/credits/grants {"amountCents":500}',
      'POST /v1/keys {"scopes":["runs:read"]}',
      'DELETE /v1/keys/key_1 ',
      'POST /v1/git-credentials {"host":"git.example","kind":"token","use":"publish","secret":"s"}',
      'DELETE /v1/git-credentials/cred_1 ',
      'GET /v1/webhook-secret ',
      'POST /v1/webhook-secret/rotate {"finish":true}',
    ])
  })

  test('give artifacts as bytes and as text', async () => {
    await using server = await startScriptedServer(ok({ data: [{ name: 'diff.patch' }], nextCursor: null }), {
      text: 'größer',
      headers: { 'content-type': 'text/x-diff' },
    })
    const { artifacts } = clientOf(server).runs
    expect((await artifacts.list('run_1')).data).toEqual([{ name: 'diff.patch' }])
    const diff = await artifacts.get('run_1', 'diff.patch')
    expect(diff.contentType).toBe('text/x-diff')
    expect(diff.text()).toBe('größer')
    expect(diff.bytes).toHaveLength(8)
  })
})
