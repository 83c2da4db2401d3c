import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { putArtifact } from '../src/storage/artifacts.ts'
import { putBlob } from '../src/storage/blobs.ts'
import { asked, type Door, openDoor } from './harness/door.ts'

let door: Door
beforeAll(async () => {
  door = await openDoor()
})
afterAll(() => door[Symbol.asyncDispose]())

const QUICK = { steps: [{ text: 'done' }] }
const SLOW = { steps: [{ text: 'wait', delayMs: 60_000 }] }

const create = async (body: object, headers: Record<string, string> = {}) => {
  const answer = await asked(`${door.url}/v1/runs`, { method: 'POST', key: door.testKey, body, headers })
  expect(answer.status).toBe(201)
  return answer
}
const runOf = (script: object, more: object = {}) => ({
  agent: 'scripted',
  input: 'x',
  test: { script },
  ...more,
})
const get = (path: string, headers: Record<string, string> = {}) =>
  asked(door.url + path, { key: door.testKey, headers })
const send = (path: string, body: object = {}, headers: Record<string, string> = {}) =>
  asked(door.url + path, { method: 'POST', key: door.testKey, body, headers })

describe('waiting', () => {
  test('a create that prefers to wait answers when the run is final', async () => {
    const { json, headers } = await create(runOf(QUICK), { prefer: 'respond-async, wait=30' })
    expect(headers.get('preference-applied')).toBe('wait=30')
    expect(json).toMatchObject({ state: 'completed', status: 'succeeded', statusReason: 'completed' })
  })

  test('a GET that prefers to wait answers after its time with the run as it is', async () => {
    const { json: run } = await create(runOf(SLOW))
    const { status, json, headers } = await get(`/v1/runs/${run.id}`, { prefer: 'wait=1' })
    expect([status, headers.get('preference-applied')]).toEqual([200, 'wait=1'])
    expect(json.status).toMatch(/^(?:pending|running)$/)
    await send(`/v1/runs/${run.id}/cancel`)
  })

  test('nobody waits for longer than a minute, or because of a preference that cannot be read', async () => {
    const { json: run } = await create(runOf(QUICK), { prefer: 'wait=30' })
    expect((await get(`/v1/runs/${run.id}`, { prefer: 'wait=9999' })).headers.get('preference-applied')).toBe(
      'wait=60',
    )
    expect(
      (await get(`/v1/runs/${run.id}`, { prefer: 'wait=soon' })).headers.get('preference-applied'),
    ).toBeNull()
  })
})

describe('stopping', () => {
  test('a run at work is stopping, then canceled, and canceling it again says so', async () => {
    const { json: run } = await create(runOf(SLOW))
    const first = await send(`/v1/runs/${run.id}/cancel`)
    expect([200, 202]).toContain(first.status)
    const { json: ended } = await get(`/v1/runs/${run.id}`, { prefer: 'wait=30' })
    expect(ended).toMatchObject({
      state: 'canceled',
      statusReason: 'canceled_by_user',
      canceledAt: ended.completedAt,
    })
    const again = await send(`/v1/runs/${run.id}/cancel`)
    expect([again.status, again.json.state]).toEqual([200, 'canceled'])
  })

  test('a run that has ended otherwise cannot be canceled', async () => {
    const { json: run } = await create(runOf(QUICK), { prefer: 'wait=30' })
    const { status, error } = await send(`/v1/runs/${run.id}/cancel`)
    expect([status, error.code]).toEqual([409, 'RUN_FINISHED'])
  })
})

describe('repeating', () => {
  test('a final run is repeated as a new run with the same input', async () => {
    const { json: run } = await create(runOf(QUICK, { metadata: { a: 1 } }), { prefer: 'wait=30' })
    const { status, json } = await send(`/v1/runs/${run.id}/retry`)
    expect(status).toBe(201)
    expect(json).toMatchObject({ retryOf: run.id, input: run.input, metadata: run.metadata })
    expect(json.id).not.toBe(run.id)
  })

  test('a run that is not final cannot be repeated', async () => {
    const { json: run } = await create(runOf(SLOW))
    const { status, error } = await send(`/v1/runs/${run.id}/retry`)
    expect([status, error.code]).toEqual([409, 'CONFLICT'])
    await send(`/v1/runs/${run.id}/cancel`)
  })

  test('the order of a repeated run shows the new run and both ids', async () => {
    const workspaceSource = { type: 'git', repository: 'https://127.0.0.1:9/nobody/there' }
    const { json: order } = await send(
      '/v1/work-orders',
      { taskPrompt: 'x', workspaceSource },
      { prefer: 'wait=30' },
    )
    expect(order.status).toBe('failed')
    const { status, json: repeated } = await send(`/v1/runs/${order.runId}/retry`)
    expect(status).toBe(201)
    const { json: shown } = await get(`/v1/work-orders/${order.workOrderId}`)
    expect(shown).toMatchObject({ runId: repeated.id, runIds: [order.runId, repeated.id] })
  })
})

describe('events', () => {
  test('are paged by seq, without gaps, and end with the final one', async () => {
    const { json: run } = await create(runOf(QUICK), { prefer: 'wait=30' })
    const events: { seq: number; type: string; runId: string }[] = []
    for (let cursor: string | null = '0'; cursor !== null; ) {
      const { json: page } = await get(`/v1/runs/${run.id}/events?limit=2&after=${cursor}`)
      events.push(...page.data)
      cursor = page.nextCursor
    }
    expect(events.map(({ seq }) => seq)).toEqual(Array.from({ length: run.lastSeq }, (_, i) => i + 1))
    expect([events[0]?.type, events.at(-1)?.type]).toEqual(['run.created', 'run.completed'])
    expect(new Set(events.map(({ runId }) => runId))).toEqual(new Set([run.id]))
  })

  test('as a stream are refused by name for now', async () => {
    const { json: run } = await create(runOf(QUICK))
    const { status, error } = await get(`/v1/runs/${run.id}/events`, { accept: 'text/event-stream' })
    expect([status, error.code]).toEqual([400, 'INVALID_REQUEST'])
    expect(error.message).toContain('text/event-stream')
  })
})

describe('lists', () => {
  test('run from new to old, by cursor or by offset, and say how many there are', async () => {
    const projectId = 'lists'
    const ids: string[] = []
    for (let i = 0; i < 5; i++) ids.unshift((await create(runOf(QUICK, { projectId }))).json.id)
    const { json: first } = await get(`/v1/runs?projectId=${projectId}&limit=2`)
    expect(first).toMatchObject({ total: 5, limit: 2, offset: 0, nextCursor: expect.any(String) })
    const { json: second } = await get(`/v1/runs?projectId=${projectId}&limit=2&after=${first.nextCursor}`)
    const { json: third } = await get(`/v1/runs?projectId=${projectId}&limit=2&after=${second.nextCursor}`)
    expect(Object.keys(second).toSorted()).toEqual(['data', 'nextCursor'])
    expect(third.nextCursor).toBeNull()
    expect([...first.data, ...second.data, ...third.data].map(({ id }) => id)).toEqual(ids)
    const { json: skipped } = await get(`/v1/runs?projectId=${projectId}&offset=3`)
    expect(skipped.data.map(({ id }: { id: string }) => id)).toEqual(ids.slice(3))
  })

  test('are narrowed by what a run is and by what its caller said of it', async () => {
    const more = { metadata: { plan: 'gold', n: 7 }, tenantContext: { tenantId: 'acme', tenantUserId: 'u1' } }
    const { json: run } = await create(runOf(QUICK, more), { prefer: 'wait=30' })
    const fitting = [
      'metadata[plan]=gold&metadata[n]=7',
      'tenantUserId=u1',
      'tenantId=acme&status=succeeded&state=completed&statusReason=completed&agent=scripted',
      `tenantId=acme&createdAfter=${run.createdAt}`,
    ]
    for (const query of fitting)
      expect((await get(`/v1/runs?${query}`)).json.data.map((one: { id: string }) => one.id)).toEqual([
        run.id,
      ])
    const others = [
      'metadata[plan]=tin',
      'tenantId=acme&status=cancelled',
      `tenantId=acme&createdBefore=${run.createdAt}`,
      'status=failed&state=completed',
    ]
    for (const query of others) expect((await get(`/v1/runs?${query}`)).json.data).toEqual([])
  })

  test.each([
    ['limit=0', 'limit'],
    ['limit=101', 'limit'],
    ['limit=ten', 'limit'],
    ['offset=10001', 'offset'],
    ['after=bm9uc2Vuc2U', 'after'],
    ['status=sleeping', 'status'],
    ['createdAfter=yesterday', 'createdAfter'],
    ['status=failed&status=running', 'status'],
  ])('refuse %s instead of being empty', async (query, field) => {
    const { status, error } = await get(`/v1/runs?${query}`)
    expect(status).toBe(400)
    expect(error.details).toMatchObject({ errors: [{ field }] })
  })
})

describe('caching', () => {
  test('an unchanged run is not sent again, and asking costs nothing', async () => {
    const { json: run } = await create(runOf(QUICK), { prefer: 'wait=30' })
    const first = await get(`/v1/runs/${run.id}`)
    const etag = first.headers.get('etag') ?? ''
    expect(etag).toMatch(/^"[0-9a-f]+"$/)
    const second = await get(`/v1/runs/${run.id}`, { 'if-none-match': `"other", W/${etag}` })
    expect([second.status, second.text, second.headers.get('etag')]).toEqual([304, '', etag])
    expect((await get(`/v1/runs/${run.id}`, { 'if-none-match': '"other"' })).status).toBe(200)
  })
})

describe('artifacts', () => {
  test('are listed and downloaded as files that no browser opens', async () => {
    const workspaceSource = { type: 'git', repository: 'https://127.0.0.1:9/nobody/there' }
    const { json: order } = await send(
      '/v1/work-orders',
      { taskPrompt: 'x', workspaceSource },
      { prefer: 'wait=30' },
    )
    const content = '<script>alert(1)</script>'
    const hash = await storeArtifact(order.runId, { name: 'a"b\r\n.html', content })
    const { json: page } = await get(`/v1/runs/${order.runId}/artifacts`)
    const listed = page.data.find(({ sha256 }: { sha256: string }) => sha256 === hash)
    expect(listed).toMatchObject({
      name: 'a"b\r\n.html',
      sizeBytes: content.length,
      contentType: 'text/html',
    })
    const file = await get(listed.url)
    expect([file.status, file.text]).toEqual([200, content])
    expect(Object.fromEntries(file.headers)).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-disposition': `attachment; filename="a_b__.html"; filename*=UTF-8''a%22b%0D%0A.html`,
      'content-security-policy': "sandbox; default-src 'none'",
      'x-content-type-options': 'nosniff',
      etag: `"${hash}"`,
    })
    expect((await get(listed.url, { 'if-none-match': `"${hash}"` })).status).toBe(304)
    expect((await get(`/v1/runs/${order.runId}/artifacts/nothing`)).status).toBe(404)
  })
})

async function storeArtifact(
  runId: `run_${string}`,
  { name, content }: { name: string; content: string },
): Promise<string> {
  const { database } = door.app
  const blob = await putBlob(database, content, { mediaType: 'text/html', at: new Date() })
  await putArtifact(database, runId, { name, ...blob })
  return blob.hash
}
