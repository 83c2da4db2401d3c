import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { asked, type Door, openDoor } from './harness/door.ts'

let door: Door
beforeAll(async () => {
  door = await openDoor()
})
afterAll(() => door[Symbol.asyncDispose]())

const ORDER = {
  taskPrompt: 'Make the failing test pass',
  workspaceSource: { type: 'git', repository: 'https://127.0.0.1:9/team/app' },
}
const RUN = { agent: 'scripted', input: 'x' }
const SCRIPT = { steps: [{ text: 'done' }] }

const post = (path: string, body: object, key = door.liveKey) =>
  asked(door.url + path, { method: 'POST', key, body })

const fieldsOf = ({ error }: { error: { details: Record<string, unknown> } }): unknown[] =>
  (error.details['errors'] as { field: string }[]).map(({ field }) => field)

describe('a work order', () => {
  test('is answered with its ids, pending, with the metadata as it was sent', async () => {
    const metadata = { ticket: 'T-1', nested: { list: [1, null, 'é'] }, nothing: null }
    const { status, json, headers } = await post('/v1/work-orders', { ...ORDER, metadata })
    expect(status).toBe(201)
    expect(json).toEqual({
      workOrderId: expect.stringMatching(/^wo_[0-9a-z]{26}$/),
      runId: expect.stringMatching(/^run_[0-9a-z]{26}$/),
      status: 'pending',
      createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      metadata,
    })
    expect(headers.get('location')).toBe(`/v1/work-orders/${json.workOrderId}`)
  })

  test('can be looked at and listed, mirroring its newest run', async () => {
    const { json: created } = await post('/v1/work-orders', {
      ...ORDER,
      correlationId: 'c-1',
      delivery: { mode: 'branch' },
    })
    const { json: order } = await asked(`${door.url}/v1/work-orders/${created.workOrderId}`, {
      key: door.liveKey,
    })
    expect(order).toMatchObject({
      ...ORDER,
      id: created.workOrderId,
      runId: created.runId,
      runIds: [created.runId],
      agent: 'coder',
      maxIterations: 10,
      delivery: { mode: 'branch' },
      correlationId: 'c-1',
      metadata: {},
      tenantContext: {},
      constraints: { maxSteps: 300, maxToolCalls: 600 },
    })
    const { json: page } = await asked(`${door.url}/v1/work-orders?limit=1`, { key: door.liveKey })
    expect(page.data[0].id).toBe(created.workOrderId)
  })

  test.each([
    ['an empty prompt', { taskPrompt: '' }, 'INVALID_VALUE', ['/taskPrompt']],
    ['a huge prompt', { taskPrompt: 'x'.repeat(100_001) }, 'INVALID_VALUE', ['/taskPrompt']],
    ['a prompt that is no text', { taskPrompt: 7 }, 'INVALID_FORMAT', ['/taskPrompt']],
    ['no iterations', { maxIterations: 0 }, 'INVALID_VALUE', ['/maxIterations']],
    ['too many iterations', { maxIterations: 101 }, 'INVALID_VALUE', ['/maxIterations']],
    ['a number as text', { maxIterations: '5' }, 'INVALID_FORMAT', ['/maxIterations']],
    ['an unknown agent', { agent: 'poet' }, 'INVALID_VALUE', ['/agent']],
    [
      'a source without a repository',
      { workspaceSource: { type: 'git' } },
      'MISSING_FIELD',
      ['/workspaceSource/repository'],
    ],
    ['a source without a type', { workspaceSource: {} }, 'MISSING_FIELD', ['/workspaceSource/type']],
    [
      'a source that comes later',
      { workspaceSource: { type: 'url', url: 'https://a.example/a.zip' } },
      'INVALID_VALUE',
      ['/workspaceSource/type'],
    ],
    [
      'a repository by ssh',
      source('git@github.com:a/b.git'),
      'INVALID_FORMAT',
      ['/workspaceSource/repository'],
    ],
    ['a repository in a file', source('file:///etc'), 'INVALID_VALUE', ['/workspaceSource/repository']],
    [
      'credentials in the URL',
      source('https://u:p@github.com/a/b'),
      'INVALID_VALUE',
      ['/workspaceSource/repository'],
    ],
    [
      'a branch that reads as an option',
      source('https://a.example/b', { branch: '--upload-pack=x' }),
      'INVALID_FORMAT',
      ['/workspaceSource/branch'],
    ],
    [
      'an abbreviated commit',
      source('https://a.example/b', { commit: 'abc123' }),
      'INVALID_FORMAT',
      ['/workspaceSource/commit'],
    ],
    [
      'an unknown gate check',
      { gatePlan: { gates: [{ name: 'a', level: 'L1', check: { type: 'magic' } }] } },
      'INVALID_VALUE',
      ['/gatePlan/gates/0/check/type'],
    ],
    ['an unknown preset', { gatePlan: 'loose' }, 'INVALID_VALUE', ['/gatePlan']],
    [
      'a tool that does not exist',
      { constraints: { denyTools: ['rm'] } },
      'INVALID_VALUE',
      ['/constraints/denyTools'],
    ],
    [
      'a cap beyond the agent’s',
      { constraints: { maxSteps: 301 } },
      'INVALID_VALUE',
      ['/constraints/maxSteps'],
    ],
    [
      'an approval, which comes later',
      { constraints: { requireApprovalFor: ['run_command'] } },
      'INVALID_VALUE',
      ['/constraints/requireApprovalFor'],
    ],
    ['a webhook by ftp', { webhookUrl: 'ftp://a.example' }, 'INVALID_VALUE', ['/webhookUrl']],
    ['a webhook that is no URL', { webhookUrl: 'a.example' }, 'INVALID_FORMAT', ['/webhookUrl']],
    ['metadata over 16 KB', { metadata: { a: 'x'.repeat(16_400) } }, 'INVALID_VALUE', ['/metadata']],
    [
      'metadata with 51 keys',
      { metadata: Object.fromEntries(Array.from({ length: 51 }, (_, i) => [`k${i}`, i])) },
      'INVALID_VALUE',
      ['/metadata'],
    ],
    ['a script with a live key', { test: { script: SCRIPT } }, 'INVALID_VALUE', ['/test']],
    ['mistakes of several kinds', { agent: 7, colour: 'red' }, 'INVALID_REQUEST', ['/colour', '/agent']],
  ])('with %s is refused, naming the field', async (_what, change, code, fields) => {
    const answer = await post('/v1/work-orders', { ...ORDER, ...change })
    expect([answer.status, answer.error.code]).toEqual([400, code])
    expect(new Set(fieldsOf(answer))).toEqual(new Set(fields))
  })

  test('of which the account cannot pay the estimate is refused with both figures', async () => {
    const { status, error } = await post('/v1/work-orders', {
      ...ORDER,
      constraints: { maxCredits: 999_999 },
    })
    expect([status, error.code]).toEqual([402, 'INSUFFICIENT_CREDITS'])
    expect(error.details).toMatchObject({ required: 999_999, available: expect.any(Number) })
  })
})

function source(repository: string, more: object = {}): object {
  return { workspaceSource: { type: 'git', repository, ...more } }
}

describe('a run', () => {
  test('of an agent that works on a repository needs a work order', async () => {
    const answer = await post('/v1/runs', { ...RUN, agent: 'coder' })
    expect(answer.error.code).toBe('INVALID_VALUE')
    expect(answer.error.message).toContain('POST /v1/work-orders')
  })

  test('takes the integration guide’s spelling, and answers in ours', async () => {
    const { status, json } = await post('/v1/runs', {
      tenant_id: 't_123',
      user_id: 'u_456',
      run_purpose: 'support',
      project_id: 'p-1',
      task: { type: 'scripted', input: { ticket_id: 'TICK-10021' } },
      constraints: { max_steps: 12, max_tool_calls: 6 },
      metadata: { snake_case: { stays_as: 'it_is' } },
    })
    expect(status).toBe(201)
    expect(json).toMatchObject({
      agent: { slug: 'scripted' },
      input: { ticket_id: 'TICK-10021' },
      tenantContext: { tenantId: 't_123', tenantUserId: 'u_456' },
      purpose: 'support',
      projectId: 'p-1',
      constraints: { maxSteps: 12, maxToolCalls: 6 },
      metadata: { snake_case: { stays_as: 'it_is' } },
    })
  })

  test.each([
    ['a field in both spellings', { projectId: 'a', project_id: 'b' }, '/project_id'],
    [
      'a nested field in both spellings',
      { constraints: { maxSteps: 1, max_steps: 1 } },
      '/constraints/max_steps',
    ],
    ['a tenant named twice', { tenant_id: 'a', tenantContext: { tenantId: 'a' } }, '/tenant_id'],
    ['an agent besides a task', { task: { type: 'scripted', input: 'x' } }, '/agent'],
  ])('with %s is refused', async (_what, change, field) => {
    const answer = await post('/v1/runs', { ...RUN, ...change })
    expect(answer.status).toBe(400)
    expect(fieldsOf(answer)).toContain(field)
  })

  test('without an agent or an input is refused, naming both', async () => {
    const answer = await post('/v1/runs', {})
    expect(answer.error.code).toBe('MISSING_FIELD')
    expect(fieldsOf(answer)).toEqual(['/agent', '/input'])
  })

  test('shows NUL and half characters, which no database keeps, as replacement characters', async () => {
    const raw = String.raw`{"agent":"scripted","input":"a\u0000b\ud800c","metadata":{"k\u0000":"\\u0000"}}`
    const { status, json } = await asked(`${door.url}/v1/runs`, { method: 'POST', key: door.liveKey, raw })
    expect(status).toBe(201)
    expect(json.input).toBe('a\uFFFDb\uFFFDc')
    expect(json.metadata).toEqual({ 'k\uFFFD': String.raw`\u0000` })
    const { json: page } = await asked(`${door.url}/v1/runs?metadata[x]=y`, { key: door.liveKey })
    expect(page.total).toBe(0)
  })

  test.each([
    ['nested without end', `{"input":${'['.repeat(5_000)}${']'.repeat(5_000)}}`],
    ['reaching for a prototype', '{"metadata":{"__proto__":{"admin":true}}}'],
    ['empty where fields are needed', ''],
  ])('from a body %s is refused', async (_what, raw) => {
    const { status, error } = await asked(`${door.url}/v1/runs`, { method: 'POST', key: door.liveKey, raw })
    expect(status).toBe(400)
    expect(error.code).toMatch(/^(?:INVALID_REQUEST|MISSING_FIELD)$/)
  })
})

describe('test mode', () => {
  test('takes a script, reserves nothing, and is invisible from live mode', async () => {
    const { status, json } = await post(
      '/v1/work-orders',
      { ...ORDER, test: { script: SCRIPT } },
      door.testKey,
    )
    expect(status).toBe(201)
    const { json: run } = await asked(`${door.url}/v1/runs/${json.runId}`, { key: door.testKey })
    expect(run).toMatchObject({ mode: 'test', cost: { credits: 0 } })
    expect((await asked(`${door.url}/v1/runs/${json.runId}`, { key: door.liveKey })).status).toBe(404)
    const { json: live } = await asked(`${door.url}/v1/runs?limit=100`, { key: door.liveKey })
    expect(live.data.every((one: { mode: string }) => one.mode === 'live')).toBe(true)
  })

  test('refuses a script that is none', async () => {
    const answer = await post(
      '/v1/runs',
      { ...RUN, test: { script: { steps: [{ colour: 1 }] } } },
      door.testKey,
    )
    expect(answer.status).toBe(400)
    expect(fieldsOf(answer)).toEqual(['/test/script/steps/0/colour'])
  })
})

describe('a tenant’s key', () => {
  test('makes runs of its own tenant without saying so, and sees only those', async () => {
    const acme = await door.tenantKey('acme')
    const { json: own } = await post('/v1/runs', RUN, acme)
    expect(own.tenantContext).toEqual({ tenantId: 'acme' })
    const { json: page } = await asked(`${door.url}/v1/runs?limit=100`, { key: acme })
    expect(page.data.map((run: { id: string }) => run.id)).toEqual([own.id])
    expect(
      (await asked(`${door.url}/v1/runs/${own.id}`, { key: await door.tenantKey('other') })).status,
    ).toBe(404)
    expect((await asked(`${door.url}/v1/runs/${own.id}`, { key: door.liveKey })).status).toBe(200)
  })

  test('cannot act for another tenant', async () => {
    const answer = await post(
      '/v1/runs',
      { ...RUN, tenantContext: { tenantId: 'other' } },
      await door.tenantKey('acme'),
    )
    expect(fieldsOf(answer)).toEqual(['/tenantContext/tenantId'])
  })
})
