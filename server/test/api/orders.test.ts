import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { AgentGate, type CreateWorkOrderRequest } from '../../../sdk/typescript/src/index.ts'
import { type Gate, startGate } from '../harness/gate.ts'

/** Nothing listens there: the run fails at once, and no order needs a jail. */
const NOWHERE = 'http://127.0.0.1:9/acme/project'
const ORDER = { taskPrompt: 'Do it.', workspaceSource: { type: 'git', repository: NOWHERE } } as const

let gate: Gate
beforeAll(async () => {
  gate = await startGate({ env: { AGENTGATE_ALLOWED_PRIVATE_HOSTS: '127.0.0.1:9' } })
})
afterAll(() => gate[Symbol.asyncDispose]())

/** What no typed program would send. */
const wrong = (change: object): CreateWorkOrderRequest => ({ ...ORDER, ...change }) as CreateWorkOrderRequest

const planOf = (change: object): object => ({
  gatePlan: {
    gates: [{ name: 'one', level: 'L1', check: { type: 'command', run: 'true' }, ...change }],
  },
})

describe('an order that cannot be taken is refused with the place of the mistake', () => {
  test.each([
    ['an empty prompt', { taskPrompt: '' }, 'INVALID_VALUE', '/taskPrompt'],
    [
      'a prompt beyond 100,000 characters',
      { taskPrompt: 'x'.repeat(100_001) },
      'INVALID_VALUE',
      '/taskPrompt',
    ],
    ['a field that nobody knows', { colour: 'red' }, 'UNKNOWN_FIELD', '/colour'],
    ['maxIterations 0', { maxIterations: 0 }, 'INVALID_VALUE', '/maxIterations'],
    ['maxIterations 101', { maxIterations: 101 }, 'INVALID_VALUE', '/maxIterations'],
    ['an unknown field of a gate', planOf({ colour: 'red' }), 'UNKNOWN_FIELD', '/gatePlan/gates/0/colour'],
    [
      'an unknown check',
      planOf({ check: { type: 'magic' } }),
      'INVALID_VALUE',
      '/gatePlan/gates/0/check/type',
    ],
    ['an unknown level', planOf({ level: 'L9' }), 'INVALID_VALUE', '/gatePlan/gates/0/level'],
    ['a level that comes later', planOf({ level: 'L2' }), 'INVALID_VALUE', '/gatePlan/gates/0/level'],
    [
      'a gate without time',
      planOf({ timeoutSeconds: 0 }),
      'INVALID_VALUE',
      '/gatePlan/gates/0/timeoutSeconds',
    ],
    ['an agent that does not exist', { agent: 'poet' }, 'INVALID_VALUE', '/agent'],
    ['a webhook that is no URL', { webhookUrl: 'nowhere' }, 'INVALID_FORMAT', '/webhookUrl'],
    ['metadata over 16 KB', { metadata: { text: 'é'.repeat(9_000) } }, 'INVALID_VALUE', '/metadata'],
    ['an empty tenant', { tenantContext: { tenantId: '' } }, 'INVALID_VALUE', '/tenantContext/tenantId'],
    ['a script with a live key', { test: { script: { steps: [] } } }, 'INVALID_VALUE', '/test'],
  ])('%s', async (_what, change, code, field) => {
    const refused = gate.client.workOrders.create(wrong(change))
    await expect(refused).rejects.toMatchObject({
      name: 'BadRequestError',
      status: 400,
      code,
      details: { errors: expect.arrayContaining([expect.objectContaining({ field })]) },
      requestId: expect.any(String),
    })
    await expect(refused).rejects.toThrow(field)
  })

  test('an Idempotency-Key of 256 characters', async () => {
    const refused = gate.client.workOrders.create(ORDER, { idempotencyKey: 'k'.repeat(256) })
    await expect(refused).rejects.toMatchObject({ status: 400 })
    await expect(refused).rejects.toThrow(/Idempotency-Key/i)
  })

  test('and nothing of it is left', async () => {
    expect((await gate.client.workOrders.list()).data).toEqual([])
    expect(await gate.client.credits.get()).toMatchObject({
      totalCreditsCents: 10_000,
      reservedCreditsCents: 0,
    })
  })
})

describe('an order that is taken', () => {
  test('is the same one when it is sent again with its key, and no other order can have that key', async () => {
    const idempotencyKey = 'order-1'
    const order = { ...ORDER, metadata: { ticket: 'T-1', nothing: null } }
    const first = await gate.client.workOrders.create(order, { idempotencyKey })
    expect(await gate.client.workOrders.create(order, { idempotencyKey })).toEqual(first)
    const other = { ...order, taskPrompt: 'Do something else.' }
    await expect(gate.client.workOrders.create(other, { idempotencyKey })).rejects.toMatchObject({
      name: 'UnprocessableError',
      status: 422,
      code: 'IDEMPOTENCY_KEY_REUSED',
    })
    const response = await fetch(`${gate.url}/v1/work-orders`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${gate.liveKey}`,
        'content-type': 'application/json',
        'idempotency-key': idempotencyKey,
      },
      body: JSON.stringify(order),
    })
    expect([response.status, response.headers.get('idempotency-replayed')]).toEqual([201, 'true'])
    expect(await response.json()).toEqual(first)
  })

  test('can be waited for while it is made, and while it is read', async () => {
    const headers = { prefer: 'wait=30' }
    const order = await gate.client.workOrders.create(ORDER, { headers })
    expect(order).toMatchObject({
      status: 'failed',
      run: { id: order.runId, statusReason: 'source_unavailable' },
    })
    expect(await gate.client.runs.get(order.runId, { headers })).toEqual(order.run)
  })

  test('is not sent again to who has it already', async () => {
    const { runId } = await gate.client.workOrders.create(ORDER, { headers: { prefer: 'wait=30' } })
    const authorization = `Bearer ${gate.liveKey}`
    const url = `${gate.url}/v1/runs/${runId}`
    const etag = (await fetch(url, { headers: { authorization } })).headers.get('etag') ?? ''
    const again = await fetch(url, { headers: { authorization, 'if-none-match': etag } })
    expect([again.status, await again.text()]).toEqual([304, ''])
  })

  test('keeps what the caller says of it', async () => {
    const tenantContext = { tenantId: 'acme', tenantUserId: 'u-1', metadata: { plan: null } }
    const metadata = { nested: { list: [1, 'é', null] }, nothing: null }
    const { workOrderId, runId } = await gate.client.workOrders.create({ ...ORDER, tenantContext, metadata })
    expect(await gate.client.workOrders.get(workOrderId)).toMatchObject({ tenantContext, metadata })
    expect((await gate.client.runs.list({ tenantId: 'acme' })).data.map(({ id }) => id)).toEqual([runId])
    const run = await gate.client.runs.wait(runId)
    expect(run).toMatchObject({ tenantContext, metadata })
    for await (const { data } of gate.client.runs.events(runId)) expect(data).toMatchObject({ tenantContext })
  })
})

describe('live and test mode', () => {
  test('do not see each other', async () => {
    const { client, testClient } = gate
    const live = await client.workOrders.create(ORDER)
    const tried = await testClient.workOrders.create(ORDER)
    const notFound = { name: 'NotFoundError', status: 404, code: 'RESOURCE_NOT_FOUND' }
    for (const [one, other] of [[client, tried] as const, [testClient, live] as const]) {
      await expect(one.runs.get(other.runId)).rejects.toMatchObject(notFound)
      await expect(one.workOrders.get(other.workOrderId)).rejects.toMatchObject(notFound)
      await expect(one.runs.cancel(other.runId)).rejects.toMatchObject(notFound)
      await expect(one.runs.retry(other.runId)).rejects.toMatchObject(notFound)
      await expect(one.runs.events(other.runId)).rejects.toMatchObject(notFound)
      await expect(one.runs.artifacts.list(other.runId)).rejects.toMatchObject(notFound)
    }
    const modes = new Set<string>()
    for await (const run of testClient.runs.list()) modes.add(run.mode)
    expect([...modes]).toEqual(['test'])
    expect((await testClient.runs.wait(tried.runId)).cost.credits).toBe(0)
  })

  test('a key that does not exist opens neither', async () => {
    const stranger = new AgentGate({ apiKey: gate.liveKey.replace(/.{4}$/, 'zzzz'), baseUrl: gate.url })
    await expect(stranger.workOrders.create(ORDER)).rejects.toMatchObject({ status: 401 })
  })
})
