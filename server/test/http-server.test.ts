import { once } from 'node:events'
import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { asked, openDoor } from './harness/door.ts'
import { startGate } from './harness/gate.ts'

test('an allowance that is used up is answered with when it is there again', async () => {
  await using door = await openDoor({ env: { AGENTGATE_RATE_READS: '3' } })
  const get = () => asked(`${door.url}/v1/runs`, { key: door.liveKey })
  const etag = (await get()).headers.get('etag') ?? ''
  const free = await asked(`${door.url}/v1/runs`, { key: door.liveKey, headers: { 'if-none-match': etag } })
  expect(free.status).toBe(304)
  await get()
  await get()
  const { status, error, headers } = await get()
  expect([status, error.code]).toEqual([429, 'RATE_LIMITED'])
  expect(error.details).toMatchObject({ limit: 3, remaining: 0, resetAt: expect.any(String) })
  expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
  expect(headers.get('x-ratelimit-remaining')).toBe('0')
  expect(headers.get('ratelimit')).toMatch(/^"reads";r=0;t=\d+$/)
  expect((await asked(`${door.url}/v1/keys`, { method: 'POST', key: door.liveKey, body: {} })).status).toBe(
    201,
  )
  expect((await asked(`${door.url}/v1/runs`, { key: door.strangerKey })).status).toBe(200)
})

test('a port that is in use is named, with the way out', async () => {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  const address = other.address()
  const port = typeof address === 'object' ? String(address?.port) : ''
  await expect(startGate({ env: { PORT: port } })).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining(port),
    hint: expect.stringContaining('PORT'),
  })
  other.close()
})

test('a server that stops answers whoever waits, at once', async () => {
  const door = await openDoor()
  const script = { steps: [{ text: 'wait', delayMs: 60_000 }] }
  const body = { agent: 'scripted', input: 'x', test: { script } }
  const { json: run } = await asked(`${door.url}/v1/runs`, { method: 'POST', key: door.testKey, body })
  const waiting = asked(`${door.url}/v1/runs/${run.id}`, {
    key: door.testKey,
    headers: { prefer: 'wait=60' },
  })
  // The wait has begun once a request that was sent after it has been answered.
  await asked(`${door.url}/healthz`, {})
  await door[Symbol.asyncDispose]()
  const { status, headers } = await waiting
  expect([status, headers.get('connection')]).toEqual([200, 'close'])
  await expect(asked(`${door.url}/healthz`, {})).rejects.toThrow()
})

test('metrics count requests by route and never by what was asked for', async () => {
  await using door = await openDoor()
  const id = await door.ownedId('run')
  await asked(`${door.url}/v1/runs/${id}`, { key: door.liveKey })
  const { text, headers } = await asked(`${door.url}/metrics`, {})
  expect(headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
  expect(text).toContain('agentgate_http_requests_total{method="GET",route="/v1/runs/:id",status="200"} 1')
  expect(text).not.toContain(id)
})

test('the documentation is one page that loads nothing', async () => {
  await using gate = await startGate()
  const { text, headers } = await asked(`${gate.url}/docs`, {})
  expect(text).toContain('POST /v1/work-orders')
  expect(text).toContain('id="INSUFFICIENT_CREDITS"')
  expect(text).not.toMatch(/<script|src=|https?:\/\//)
  expect(headers.get('content-security-policy')).toMatch(/^default-src 'none'; style-src 'sha256-[^']+'/)
})
