import { describe, expect, test } from 'vitest'
import retries from '../../fixtures/retries.json' with { type: 'json' }
import * as sdk from '../src/index.ts'
import { Runs } from '../src/resources/runs.ts'
import { WorkOrders } from '../src/resources/work-orders.ts'
import { Transport } from '../src/transport.ts'
import { refusal, type Script, startScriptedServer } from './scripted-server.ts'

const ORDER: sdk.CreateWorkOrderRequest = {
  taskPrompt: 'Fix the test',
  workspaceSource: { type: 'git', repository: 'https://git.example/a.git' },
}

/** A transport whose clock moves only by its own pauses. */
function fastTransport(baseUrl: string, random = Math.random) {
  const waits: number[] = []
  let now = 0
  const transport = new Transport(
    {
      apiKey: 'org_test_1',
      baseUrl,
      timeoutMs: 5_000,
      connectTimeoutMs: 5_000,
      maxRetries: 3,
      fetch: undefined,
    },
    {
      monotonic: () => now,
      random,
      async pause(ms) {
        waits.push(ms)
        now += ms
      },
    },
  )
  return { transport, waits }
}

interface FixtureAnswer {
  status?: number
  code?: string
  headers?: Record<string, string | undefined>
  cut?: string
}

function scriptOf({ status, code, headers, cut }: FixtureAnswer): Script {
  if (cut === 'before' || cut === 'within') return { cut }
  const given = Object.fromEntries(Object.entries(headers ?? {}).map(([name, value]) => [name, value ?? '']))
  const body = code ? { error: { code, message: code, details: {}, requestId: 'req_1' } } : {}
  return { status: status ?? 200, headers: given, body }
}

describe('the shared retry fixtures hold', () => {
  test.each(retries.cases)('$title', async ({ method, answers, outcome, waits: ranges }) => {
    await using server = await startScriptedServer(...answers.map(scriptOf))
    const { transport, waits } = fastTransport(server.url)

    const call =
      method === 'POST' ? new WorkOrders(transport).create(ORDER) : new Runs(transport).get('run_1')
    const end = await call.then(
      () => 'success',
      (error: Error) => error.name,
    )

    expect(end).toBe(outcome)
    expect(server.seen).toHaveLength(answers.length)
    expect(waits).toHaveLength(ranges.length)
    for (const [index, [least = 0, most = 0]] of ranges.entries()) {
      expect(waits[index]).toBeGreaterThanOrEqual(least)
      expect(waits[index]).toBeLessThanOrEqual(most)
    }
    const keys = new Set(server.seen.map((request) => request.headers['idempotency-key']))
    expect(keys.size).toBe(1)
    expect([...keys][0] === undefined).toBe(method === 'GET')
  })
})

test('pauses differ between clients by up to a quarter', async () => {
  const measure = async (random: number) => {
    await using server = await startScriptedServer({ status: 500 }, { status: 200, body: {} })
    const { transport, waits } = fastTransport(server.url, () => random)
    await new Runs(transport).get('run_1')
    return waits
  }

  expect(await measure(0)).toEqual([500])
  expect(await measure(0.8)).toEqual([400])
})

test('maxRetries of one call wins over the client', async () => {
  await using server = await startScriptedServer({ status: 503 })
  const { transport } = fastTransport(server.url)

  await expect(new Runs(transport).get('run_1', { maxRetries: 0 })).rejects.toBeInstanceOf(sdk.ServerError)
  expect(server.seen).toHaveLength(1)
})

describe('automatic idempotency keys', () => {
  const created: Script = { status: 201, body: { workOrderId: 'wo_1', runId: 'run_1', metadata: {} } }
  const keyAt = (server: { seen: { headers: Record<string, unknown> }[] }, index: number) =>
    server.seen[index]?.headers['idempotency-key']

  /** The keys of two calls with the same request object, without retries; the first gets `first`. */
  async function keysOfTwoCalls(first: Script, change?: (order: sdk.CreateWorkOrderRequest) => void) {
    await using server = await startScriptedServer(first, created)
    const { transport } = fastTransport(server.url)
    const orders = new WorkOrders(transport)
    const order = structuredClone(ORDER)
    await orders.create(order, { maxRetries: 0 }).catch(() => undefined)
    change?.(order)
    await orders.create(order, { maxRetries: 0 })
    return [keyAt(server, 0), keyAt(server, 1)]
  }

  test.each<[string, Script]>([
    ['a server error', { status: 500 }],
    ['a cut connection', { cut: 'before' }],
    ['an answer cut in the middle', { cut: 'within' }],
    ['a twin in flight', refusal(409, 'IDEMPOTENCY_IN_FLIGHT')],
    ['a rate limit', refusal(429, 'RATE_LIMITED')],
  ])('are kept when the same request object is sent again after %s', async (_what, script) => {
    const [first, second] = await keysOfTwoCalls(script)
    expect(first).toMatch(/^[0-9a-f-]{36}$/)
    expect(second).toBe(first)
  })

  test.each<[string, Script]>([
    ['a success', created],
    ['a bad request', refusal(400, 'INVALID_VALUE')],
    ['a lack of credits', refusal(402, 'INSUFFICIENT_CREDITS')],
    ['a reused key', refusal(422, 'IDEMPOTENCY_KEY_REUSED')],
  ])('are renewed after %s', async (_what, script) => {
    const [first, second] = await keysOfTwoCalls(script)
    expect(second).toBeDefined()
    expect(second).not.toBe(first)
  })

  test('are renewed after the repeated request succeeded', async () => {
    await using server = await startScriptedServer({ status: 500 }, created, created)
    const orders = new WorkOrders(fastTransport(server.url).transport)
    await orders.create(ORDER, { maxRetries: 0 }).catch(() => undefined)
    await orders.create(ORDER)
    await orders.create(ORDER)
    expect(keyAt(server, 1)).toBe(keyAt(server, 0))
    expect(keyAt(server, 2)).not.toBe(keyAt(server, 0))
  })

  test('are renewed when the object was changed in between', async () => {
    const [first, second] = await keysOfTwoCalls({ status: 500 }, (order) => {
      order.taskPrompt = 'Something else'
    })
    expect(second).not.toBe(first)
  })

  test('differ between two calls at the same time with one object', async () => {
    await using server = await startScriptedServer(created, created)
    const orders = new WorkOrders(fastTransport(server.url).transport)
    await Promise.all([orders.create(ORDER), orders.create(ORDER)])
    expect(keyAt(server, 0)).not.toBe(keyAt(server, 1))
  })

  test('differ between equal objects, and a given key is sent as it is', async () => {
    await using server = await startScriptedServer({ status: 500 }, created, created)
    const orders = new WorkOrders(fastTransport(server.url).transport)
    await orders.create(ORDER, { maxRetries: 0 }).catch(() => undefined)
    await orders.create({ ...ORDER })
    await orders.create(ORDER, { idempotencyKey: 'mine' })
    expect(keyAt(server, 1)).not.toBe(keyAt(server, 0))
    expect(keyAt(server, 2)).toBe('mine')
  })

  test('are sent with a POST that has no body, and stay the same over its repeats', async () => {
    await using server = await startScriptedServer({ status: 500 }, { status: 202, body: {} })
    await new Runs(fastTransport(server.url).transport).cancel('run_1')
    expect(keyAt(server, 0)).toBeDefined()
    expect(keyAt(server, 1)).toBe(keyAt(server, 0))
    expect(server.seen[0]).toMatchObject({ path: '/v1/runs/run_1/cancel', body: '' })
    expect(server.seen[0]?.headers['content-type']).toBeUndefined()
  })
})
