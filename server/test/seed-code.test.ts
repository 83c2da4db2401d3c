import { execFileSync } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { transformSync } from 'esbuild'
import { describe, expect, test } from 'vitest'
import * as sdk from '../../sdk/typescript/src/index.ts'
import { refusal, type Script, startScriptedServer } from '../../sdk/typescript/test/scripted-server.ts'
import { isSkipped } from './harness/report.ts'
import { SeedQueue, SeedTasks, startSeedApp } from './harness/seed-application.ts'
import {
  absentSeeds,
  loadSeedBlock,
  PYTHON_BLOCK_NAMES,
  pythonBlock,
  pythonProgram,
  type SeedFunction,
  TYPESCRIPT_BLOCK_NAMES,
  type TypeScriptBlock,
  typescriptBlock,
} from './harness/seed-code.ts'
import { lackingPython, PYTHON, runPython, startPythonWebhook } from './harness/seed-python.ts'

const absent = isSkipped(absentSeeds())
const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`

/** The function of this name in a block, with these names in its scope. */
function seedFunction(block: TypeScriptBlock, name: string, supplied: Record<string, unknown>): SeedFunction {
  const found = loadSeedBlock(block, supplied)?.[name]
  if (!found) throw new Error(`${block} declares no ${name}`)
  return found
}

const created: Script = {
  status: 201,
  body: {
    workOrderId: 'wo_1',
    runId: 'run_1',
    status: 'pending',
    createdAt: '',
    metadata: { requestId: 'task-1' },
  },
}
const run = (status: string, more: object = {}): Script => ({
  status: 200,
  body: { id: 'run_1', status, ...more },
})

const clientOf = (server: { url: string }): sdk.AgentGate =>
  new sdk.AgentGate({ apiKey: 'org_test_1', baseUrl: server.url, maxRetries: 0 })

const lacksPython = isSkipped(lackingPython())

/** Posts as the gate posts a webhook. */
const deliver = (url: string, event: object, secret = SECRET): Promise<Response> => {
  const body = JSON.stringify(event)
  const signature = `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`
  const headers = { 'content-type': 'application/json', 'x-agentgate-signature': signature }
  return fetch(`${url}/webhooks/agentgate`, { method: 'POST', headers, body })
}

const submit = (url: string): Promise<Response> =>
  fetch(`${url}/api/tasks`, {
    method: 'POST',
    body: JSON.stringify({ taskPrompt: 'Fix the test', repo: 'https://git.example/a.git' }),
  })

const completed = {
  type: 'run.completed',
  data: {
    runId: 'run_1',
    prUrl: 'https://git.example/pulls/1',
    cost: { credits: 12 },
    tenantContext: {} as Record<string, unknown>,
  },
}

describe.skipIf(absent)('the printed code is found as it stands', () => {
  test.each(TYPESCRIPT_BLOCK_NAMES)('%s is whole TypeScript', (name) => {
    const code = typescriptBlock(name) ?? ''
    expect(code).toContain('await ')
    expect(code).not.toMatch(/^(Implementation|When to Use|Flow)$/m)
    expect(() => transformSync(code, { loader: 'ts' })).not.toThrow()
  })

  test.each<[TypeScriptBlock, string[]]>([
    ['Basic Integration', ['runTask']],
    ['Retry with Backoff', ['submitWithRetry']],
    ['Graceful Degradation', ['runTaskWithFallback']],
  ])('%s declares %j', (name, functions) => {
    expect(Object.keys(loadSeedBlock(name, {}) ?? {})).toEqual(functions)
  })

  test.each(PYTHON_BLOCK_NAMES)(
    '%s is whole Python, and its program takes the address it is given',
    (name) => {
      const check = 'import sys; compile(sys.stdin.read(), "seed", "exec")'
      const compile = (input: string) => execFileSync(PYTHON, ['-c', check], { input, stdio: 'pipe' })
      expect(() => compile(pythonBlock(name) ?? '')).not.toThrow()
      const program = pythonProgram(name) ?? ''
      expect(() => compile(program)).not.toThrow()
      expect(program).toMatch(/^BASE_URL = 'https.*'\nBASE_URL = os\.environ/m)
      for (const line of (pythonBlock(name) ?? '').split('\n')) expect(program.split('\n')).toContain(line)
    },
  )
})

describe.skipIf(absent)('the printed code runs with the SDK', () => {
  test('polling ends with the pull request of the run', async () => {
    const answers = [created, run('pending'), run('running'), run('succeeded', { prUrl: 'u' })]
    await using server = await startScriptedServer(...answers)
    const sleep = async () => undefined
    const runTask = seedFunction('Basic Integration', 'runTask', { client: clientOf(server), sleep })

    await expect(runTask('Fix it', 'https://git.example/a.git')).resolves.toEqual({
      success: true,
      prUrl: 'u',
    })
    expect(JSON.parse(server.seen[0]?.body ?? '')).toEqual({
      taskPrompt: 'Fix it',
      workspaceSource: { type: 'git', repository: 'https://git.example/a.git' },
    })
  })

  test('a webhook completes the task that the submit endpoint stored', async () => {
    await using server = await startScriptedServer(created)
    await using application = await startSeedApp()
    const tasks = new SeedTasks()
    const notified: unknown[] = []
    loadSeedBlock('Webhook-Driven', {
      app: application.app,
      client: clientOf(server),
      db: { tasks },
      generateId: () => 'task-1',
      verifySignature: sdk.createVerifier(SECRET),
      notifyUser: async (data: unknown) => void notified.push(data),
    })

    await expect((await submit(application.url)).json()).resolves.toEqual({ taskId: 'task-1' })
    expect((await deliver(application.url, completed, 'whsec_another')).status).toBe(401)
    expect(tasks.rows).toMatchObject([{ id: 'task-1', runId: 'run_1', status: 'pending' }])
    expect((await deliver(application.url, completed)).status).toBe(200)
    await application.idle()

    expect(tasks.rows).toMatchObject([{ status: 'completed', prUrl: completed.data.prUrl }])
    expect(notified).toEqual([completed.data])
    expect(application.failures).toEqual([])
  })

  test('a queue carries the order in and the result out', async () => {
    await using server = await startScriptedServer(created)
    await using application = await startSeedApp()
    const tasks = new SeedTasks()
    const queue = new SeedQueue()
    const sent: unknown[] = []
    loadSeedBlock('Queue-Based', {
      app: application.app,
      queue,
      client: clientOf(server),
      db: { tasks },
      generateId: () => 'task-1',
      sendNotification: async (...args: unknown[]) => void sent.push(args),
    })

    await submit(application.url)
    await queue.idle()
    expect(tasks.rows).toEqual([{ id: 'task-1', runId: 'run_1', status: 'running' }])
    await deliver(application.url, completed)
    await application.idle()
    await queue.idle()

    expect(tasks.rows).toMatchObject([{ status: 'completed', result: completed.data }])
    expect(sent).toEqual([[undefined, 'Task completed!']])
    expect(application.failures).toEqual([])
  })

  test('a tenant is carried to its own webhook and its own bill', async () => {
    await using server = await startScriptedServer(created)
    await using tenantServer = await startScriptedServer({ status: 200 })
    await using application = await startSeedApp()
    const usage: unknown[] = []
    loadSeedBlock('Multi-Tenant', {
      app: application.app,
      client: clientOf(server),
      authenticateTenant(request: Record<string, unknown>, _response: unknown, next: () => void) {
        request.tenant = { id: 'acme', plan: 'pro', webhookUrl: `${tenantServer.url}/hook` }
        request.user = { id: 'user-1' }
        next()
      },
      recordUsage: async (entry: unknown) => void usage.push(entry),
    })

    await expect((await submit(application.url)).json()).resolves.toEqual({ taskId: 'run_1' })
    const { tenantContext } = JSON.parse(server.seen[0]?.body ?? '')
    expect(tenantContext).toMatchObject({
      tenantId: 'acme',
      tenantUserId: 'user-1',
      metadata: { plan: 'pro' },
    })

    const event = { ...completed, data: { ...completed.data, tenantContext } }
    await deliver(application.url, event)
    await application.idle()
    expect(JSON.parse(tenantServer.seen[0]?.body ?? '')).toEqual(event)
    expect(usage).toEqual([{ tenantId: 'acme', credits: 12, runId: 'run_1' }])
    expect(application.failures).toEqual([])
  })

  test('retrying sends one order under one key and waits as the gate asks', async () => {
    await using server = await startScriptedServer(
      { status: 500 },
      { ...refusal(429, 'RATE_LIMITED'), headers: { 'retry-after': '3' } } as Script,
      created,
    )
    const slept: number[] = []
    const submitWithRetry = seedFunction('Retry with Backoff', 'submitWithRetry', {
      client: clientOf(server),
      sleep: async (ms: number) => void slept.push(ms),
      RateLimitError: sdk.RateLimitError,
      ServerError: sdk.ServerError,
    })
    const order = {
      taskPrompt: 'x',
      workspaceSource: { type: 'git', repository: 'https://git.example/a.git' },
    }

    await expect(submitWithRetry(order)).resolves.toMatchObject({ runId: 'run_1' })
    expect(slept).toEqual([1000, 3000])
    expect(new Set(server.seen.map((request) => request.headers['idempotency-key'])).size).toBe(1)
  })

  test('retrying leaves a client error alone', async () => {
    await using server = await startScriptedServer(refusal(400, 'MISSING_FIELD'))
    const { RateLimitError, ServerError } = sdk
    const supplied = { client: clientOf(server), RateLimitError, ServerError }
    const submitWithRetry = seedFunction('Retry with Backoff', 'submitWithRetry', supplied)
    await expect(submitWithRetry({})).rejects.toBeInstanceOf(sdk.BadRequestError)
  })

  test('degrading hands the work to people, with the reason', async () => {
    const queued: unknown[] = []
    const logged: unknown[] = []
    const client = new sdk.AgentGate({ apiKey: 'k', baseUrl: 'http://127.0.0.1:1', maxRetries: 0 })
    const sleep = async () => undefined
    const runTask = seedFunction('Basic Integration', 'runTask', { client, sleep })
    const runTaskWithFallback = seedFunction('Graceful Degradation', 'runTaskWithFallback', {
      runTask,
      logger: { error: (...args: unknown[]) => logged.push(args) },
      manualQueue: { add: async (task: unknown) => void queued.push(task) },
    })

    await expect(runTaskWithFallback('Fix it', 'repo')).resolves.toMatchObject({ source: 'fallback' })
    expect(queued).toMatchObject([{ taskPrompt: 'Fix it', repo: 'repo' }])
    expect(queued[0]).toHaveProperty('error', expect.stringContaining('No answer'))
    expect(logged).toHaveLength(1)
  })
})

describe.skipIf(absent || lacksPython)('the printed Python runs', () => {
  const environment = (url: string) => ({ AGENTGATE_API_KEY: 'org_test_1', AGENTGATE_BASE_URL: url })

  test('an order is placed and its run looked up', async () => {
    await using server = await startScriptedServer(created, run('pending'))
    const { code, stdout } = await runPython('Basic Usage', environment(server.url))

    expect({ code, stdout }).toEqual({ code: 0, stdout: 'Run ID: run_1\nStatus: pending\n' })
    expect(server.seen.map(({ method, path }) => `${method} ${path}`)).toEqual([
      'POST /v1/work-orders',
      'GET /v1/runs/run_1',
    ])
    expect(server.seen[1]?.headers.authorization).toBe('Bearer org_test_1')
  })

  test.each<[string, Script, string]>([
    [
      'a lack of credits',
      refusal(402, 'INSUFFICIENT_CREDITS', { details: { required: 50 } }),
      "{'required': 50}",
    ],
    ['a bad order', refusal(400, 'MISSING_FIELD'), 'Error: It is MISSING_FIELD.'],
  ])('%s is told and raised', async (_what, script, words) => {
    await using server = await startScriptedServer(script)
    const { code, stdout, stderr } = await runPython('Error Handling', environment(server.url), [
      'Fix it',
      'repo',
    ])
    expect(code).toBe(1)
    expect(stdout).toContain(words)
    expect(stderr).toContain('HTTPError')
  })

  test('a good order comes back from the function', async () => {
    await using server = await startScriptedServer(created)
    const { stdout } = await runPython('Error Handling', environment(server.url), ['Fix it', 'repo'])
    expect(JSON.parse(stdout)).toMatchObject({ runId: 'run_1' })
  })

  test('a webhook is taken with its signature and refused with another', async () => {
    await using receiver = await startPythonWebhook({
      ...environment('http://127.0.0.1:1'),
      WEBHOOK_SECRET: SECRET,
    })
    expect((await deliver(receiver.url, completed)).status).toBe(200)
    expect((await deliver(receiver.url, completed, 'whsec_another')).status).toBe(401)
    expect(receiver.printed()).toContain('Received: run.completed')
  })
})
