import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { gitCredentialPlace } from '../src/storage/git-credentials.ts'
import { createVault, parseMasterKey } from '../src/vault/vault.ts'
import { asked, type Door, openDoor } from './harness/door.ts'

let door: Door
beforeAll(async () => {
  door = await openDoor()
})
afterAll(() => door[Symbol.asyncDispose]())

const get = (path: string, key = door.liveKey) => asked(door.url + path, { key })
const post = (path: string, body: object, key = door.liveKey) =>
  asked(door.url + path, { method: 'POST', key, body })
const remove = (path: string, key = door.liveKey) => asked(door.url + path, { method: 'DELETE', key })

describe('keys', () => {
  test('a new key works at once, is shown once, and ends when it is revoked', async () => {
    const { status, json } = await post('/v1/keys', { name: 'ci', scopes: ['runs:read', 'runs:read'] })
    expect(status).toBe(201)
    expect(json.secret).toMatch(/^org_live_[0-9a-z]{58}$/)
    expect(json.key).toMatchObject({ name: 'ci', mode: 'live', scopes: ['runs:read'], revokedAt: null })
    expect((await get('/v1/runs', json.secret)).status).toBe(200)
    const shown = await get(`/v1/keys/${json.key.id}`)
    expect(shown.text).not.toContain(json.secret)
    expect(shown.json.lastUsedAt).not.toBeNull()
    expect((await remove(`/v1/keys/${json.key.id}`)).status).toBe(204)
    expect((await get('/v1/runs', json.secret)).error.code).toBe('INVALID_API_KEY')
    expect((await get(`/v1/keys/${json.key.id}`)).json.revokedAt).not.toBeNull()
    expect((await remove(`/v1/keys/${json.key.id}`)).status).toBe(204)
  })

  test('a key can grant no scope that it does not have', async () => {
    const lesser = await door.makeKey({ scopes: ['keys:write', 'runs:read'] })
    for (const scopes of [['runs:write'], ['*'], ['runs:read', 'admin:*']]) {
      const { status, error } = await post('/v1/keys', { scopes }, lesser)
      expect([status, error.code]).toEqual([403, 'INSUFFICIENT_PERMISSIONS'])
    }
    expect((await post('/v1/keys', {}, lesser)).json.key.scopes).toEqual(['keys:write', 'runs:read'])
  })

  test('a key makes keys of its own mode and tenant only', async () => {
    expect((await post('/v1/keys', { mode: 'test' })).status).toBe(400)
    const acme = await door.tenantKey('acme')
    expect((await post('/v1/keys', { tenantId: 'other' }, acme)).status).toBe(400)
    const { json } = await post('/v1/keys', {}, acme)
    expect(json.key.tenantId).toBe('acme')
    expect(json.secret).toMatch(/^ten_live_/)
    const { json: visible } = await get('/v1/keys?limit=100', acme)
    expect(visible.data.every(({ tenantId }: { tenantId: string }) => tenantId === 'acme')).toBe(true)
  })

  test.each([
    ['an unknown scope', { scopes: ['runs:fly'] }],
    ['no scope at all', { scopes: [] }],
    ['an end that has passed', { expiresAt: '2020-01-01T00:00:00.000Z' }],
    ['an end that is no time', { expiresAt: 'tomorrow' }],
  ])('a key with %s is refused', async (_what, body) => {
    expect((await post('/v1/keys', body)).status).toBe(400)
  })
})

describe('git credentials', () => {
  test('are sealed, listed without their secret, and forgotten', async () => {
    const secret = 'ghp_canary_7f3a'
    const created = await post('/v1/git-credentials', {
      host: 'git.example:8443',
      kind: 'basic',
      use: 'publish',
      username: 'u',
      secret,
    })
    expect(created.status).toBe(201)
    const { id } = created.json
    const listed = await get('/v1/git-credentials?host=git.example:8443')
    expect(listed.json.data).toEqual([created.json])
    expect(created.text + listed.text).not.toContain(secret)
    const [row] = await door.app.database.query<{ sealed: Buffer; organization: string }>(
      'select sealed, organization_id as organization from git_credential where id = $1',
      [id],
    )
    expect(row?.sealed.includes(secret)).toBe(false)
    const vault = createVault({ masterKey: parseMasterKey(Buffer.alloc(32, 7).toString('base64')) })
    const place = gitCredentialPlace({ organizationId: row?.organization ?? '', id })
    expect(vault.open(row?.sealed ?? Buffer.alloc(0), place).reveal()).toBe(secret)
    expect((await remove(`/v1/git-credentials/${id}`)).status).toBe(204)
    expect((await remove(`/v1/git-credentials/${id}`)).status).toBe(404)
  })

  test.each([
    ['a host with a path', { host: 'git.example/a' }],
    ['a host in capitals', { host: 'Git.example' }],
    ['a password without a user', { kind: 'basic' }],
    ['a secret that would start a new header', { secret: 'a\r\nb' }],
    ['an API that is no URL', { apiBaseUrl: 'api' }],
    ['a kind that comes later', { kind: 'github_app' }],
  ])('with %s are refused', async (_what, change) => {
    const body = { host: 'git.example', kind: 'token', use: 'read', secret: 's', ...change }
    expect((await post('/v1/git-credentials', body)).status).toBe(400)
  })
})

describe('credits', () => {
  test('are granted, shown and listed, and included ones are spent first', async () => {
    const { json: before } = await get('/v1/credits')
    expect(before).toMatchObject({ purchasedCreditsCents: 0, totalCreditsCents: before.includedCreditsCents })
    await post('/v1/credits/grants', { amountCents: 250, type: 'purchase', reason: 'order 7' })
    await post('/v1/credits/grants', { amountCents: 50 })
    const { json: after } = await get('/v1/credits')
    expect(after).toMatchObject({
      includedCreditsCents: before.includedCreditsCents + 50,
      purchasedCreditsCents: 250,
      totalCreditsCents: before.totalCreditsCents + 300,
      reservedCreditsCents: 0,
    })
    expect(Date.parse(after.billingCycleEnd) - Date.parse(after.billingCycleStart)).toBeGreaterThan(
      27 * 86_400_000,
    )
    const { json: usage } = await get('/v1/credits/usage')
    expect(usage).toMatchObject({ limit: 50, offset: 0, total: 3 })
    expect(usage.transactions.slice(0, 2)).toMatchObject([
      { type: 'grant', amountCents: 50 },
      { type: 'purchase', amountCents: 250, description: 'order 7', runId: null },
    ])
    const { json: purchases } = await get('/v1/credits/usage?type=purchase')
    expect(purchases.total).toBe(1)
  })

  test('do not exist in test mode', async () => {
    expect((await get('/v1/credits', door.testKey)).json.totalCreditsCents).toBe(0)
    expect((await get('/v1/credits/usage', door.testKey)).json.transactions).toEqual([])
    expect((await post('/v1/credits/grants', { amountCents: 5 }, door.testKey)).error.code).toBe('CONFLICT')
  })

  test('of a tenant’s runs are listed for that tenant, and the grants are not', async () => {
    const { json } = await get('/v1/credits/usage', await door.tenantKey('acme'))
    expect(json.transactions).toEqual([])
  })
})

describe('the default webhook secret', () => {
  test('stays until it is rotated; the one before signs for a day, or until it is ended', async () => {
    const { json: first, headers } = await get('/v1/webhook-secret')
    expect(first).toEqual({ secret: door.webhookSecret, previousSecretUntil: null })
    expect(headers.get('cache-control')).toBe('no-store')
    const { json: rotated } = await post('/v1/webhook-secret/rotate', {})
    expect(rotated.secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
    expect(rotated.secret).not.toBe(first.secret)
    expect(Date.parse(rotated.previousSecretUntil)).toBeGreaterThan(Date.now() + 86_000_000)
    expect((await get('/v1/webhook-secret')).json).toEqual(rotated)
    const { json: finished } = await post('/v1/webhook-secret/rotate', { finish: true })
    expect(finished).toEqual({ secret: rotated.secret, previousSecretUntil: null })
  })

  test('is another one for test mode and for each tenant, and the same for two who ask at once', async () => {
    const acme = await door.tenantKey('acme')
    const [one, two] = await Promise.all([get('/v1/webhook-secret', acme), get('/v1/webhook-secret', acme)])
    expect(one.json.secret).toBe(two.json.secret)
    const others = await Promise.all([get('/v1/webhook-secret'), get('/v1/webhook-secret', door.testKey)])
    expect(new Set([one, ...others].map(({ json }) => json.secret)).size).toBe(3)
  })
})
