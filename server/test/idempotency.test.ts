import { afterAll, beforeAll, expect, test } from 'vitest'
import { newId } from '../src/lib/id.ts'
import { tryLockKey } from '../src/storage/idempotency.ts'
import { asked, type Door, openDoor } from './harness/door.ts'

let door: Door
beforeAll(async () => {
  door = await openDoor()
})
afterAll(() => door[Symbol.asyncDispose]())

const post = (path: string, body: object, idempotencyKey: string, key = door.liveKey) =>
  asked(door.url + path, { method: 'POST', key, body, headers: { 'idempotency-key': idempotencyKey } })

const fresh = (): string => newId('key', Date.now())

const CASES: [path: string, body: object, other: object, status: number][] = [
  ['/v1/runs', { agent: 'scripted', input: { a: 1, b: 2 } }, { agent: 'scripted', input: { a: 2 } }, 201],
  [
    '/v1/work-orders',
    { taskPrompt: 'x', workspaceSource: { type: 'git', repository: 'https://127.0.0.1:9/a' } },
    { taskPrompt: 'y', workspaceSource: { type: 'git', repository: 'https://127.0.0.1:9/a' } },
    201,
  ],
  ['/v1/keys', { name: 'a' }, { name: 'b' }, 201],
  [
    '/v1/git-credentials',
    { host: 'a.example', kind: 'token', use: 'read', secret: 'one' },
    { host: 'a.example', kind: 'token', use: 'read', secret: 'two' },
    201,
  ],
  ['/v1/credits/grants', { amountCents: 5 }, { amountCents: 6 }, 201],
  ['/v1/webhook-secret/rotate', {}, { finish: true }, 200],
]

test.each(CASES)(
  '%s: the same key and body get the same answer, once, without its secrets',
  async (path, body, _other, status) => {
    const key = fresh()
    const first = await post(path, body, key)
    const second = await post(path, Object.fromEntries(Object.entries(body).toReversed()), key)
    expect([first.status, second.status]).toEqual([status, status])
    expect(first.headers.get('idempotency-replayed')).toBeNull()
    expect(second.headers.get('idempotency-replayed')).toBe('true')
    const withoutSecret = 'secret' in first.json ? { ...first.json, secret: null } : first.json
    expect(second.json).toEqual(withoutSecret)
  },
)

test.each(CASES)('%s: the same key with another body is refused', async (path, body, other) => {
  const key = fresh()
  await post(path, body, key)
  const { status, error } = await post(path, other, key)
  expect([status, error.code]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED'])
})

test('a cancel is answered again as it was', async () => {
  const script = { steps: [{ text: 'wait', delayMs: 60_000 }] }
  const body = { agent: 'scripted', input: 'x', test: { script } }
  const { json: run } = await post('/v1/runs', body, fresh(), door.testKey)
  const key = fresh()
  const first = await post(`/v1/runs/${run.id}/cancel`, {}, key, door.testKey)
  await asked(`${door.url}/v1/runs/${run.id}`, { key: door.testKey, headers: { prefer: 'wait=30' } })
  const second = await post(`/v1/runs/${run.id}/cancel`, {}, key, door.testKey)
  expect([second.status, second.json]).toEqual([first.status, first.json])
})

test('a refused request does not use its key up', async () => {
  const key = fresh()
  expect((await post('/v1/credits/grants', { amountCents: 0 }, key)).status).toBe(400)
  expect((await post('/v1/credits/grants', { amountCents: 1 }, key)).status).toBe(201)
  const dear = { agent: 'scripted', input: 'x', constraints: { maxCredits: 900_000 } }
  const another = fresh()
  expect((await post('/v1/runs', dear, another)).status).toBe(402)
  expect((await post('/v1/runs', { ...dear, constraints: {} }, another)).status).toBe(201)
})

test('the same key means something else on another path, in the other mode, and for another tenant', async () => {
  const key = fresh()
  const body = { agent: 'scripted', input: 'x' }
  const answers = [
    await post('/v1/runs', body, key),
    await post('/v1/runs', body, key, door.testKey),
    await post('/v1/runs', body, key, await door.tenantKey('acme')),
  ]
  expect(new Set(answers.map(({ json }) => json.id)).size).toBe(3)
  expect((await post('/v1/keys', { name: 'x' }, key)).status).toBe(201)
})

test('while its twin is being answered, a request is told to come back', async () => {
  const [ours] = await door.app.database.query<{ id: string }>(
    "select organization_id as id from api_key where name = 'first live key'",
  )
  const place = {
    organizationId: ours?.id ?? '',
    mode: 'live',
    tenantId: '',
    route: 'POST /v1/keys',
    key: fresh(),
  } as const
  await door.app.database.inTransaction(async (tx) => {
    await tryLockKey(tx, place)
    const { status, error, headers } = await post('/v1/keys', { name: 'a' }, place.key)
    expect([status, error.code, headers.get('retry-after')]).toEqual([409, 'IDEMPOTENCY_IN_FLIGHT', '1'])
  })
  expect((await post('/v1/keys', { name: 'a' }, place.key)).status).toBe(201)
})

test('of many twins at once exactly one takes effect', async () => {
  const key = fresh()
  const answers = await Promise.all(
    Array.from({ length: 6 }, () => post('/v1/credits/grants', { amountCents: 7 }, key)),
  )
  const statuses = new Set(answers.map(({ status }) => status))
  expect([...statuses].every((status) => status === 201 || status === 409)).toBe(true)
  const ids = new Set(answers.filter(({ status }) => status === 201).map(({ json }) => json.id))
  expect(ids.size).toBe(1)
  const { json } = await asked(`${door.url}/v1/credits/usage?type=grant&limit=100`, { key: door.liveKey })
  expect(
    json.transactions.filter(({ amountCents }: { amountCents: number }) => amountCents === 7),
  ).toHaveLength(1)
})

test('many cancels at once are all answered, with or without a key', async () => {
  const script = { steps: [{ text: 'wait', delayMs: 60_000 }] }
  const body = { agent: 'scripted', input: 'x', test: { script } }
  const runs = await Promise.all(
    Array.from({ length: 20 }, () => post('/v1/runs', body, fresh(), door.testKey)),
  )
  const cancels = runs.map(({ json: run }) => post(`/v1/runs/${run.id}/cancel`, {}, fresh(), door.testKey))
  for (const { status } of await Promise.all(cancels)) expect([200, 202]).toContain(status)
})
