import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as sdk from '../../../sdk/typescript/src/index.ts'
import { type Neighbourhood, startNeighbourhood } from '../harness/house.ts'
import { isSkipped } from '../harness/report.ts'
import { SeedQueue, SeedTasks, startSeedApp } from '../harness/seed-application.ts'
import { absentSeeds, loadSeedBlock, type SeedFunction, type TypeScriptBlock } from '../harness/seed-code.ts'
import { lackingPython, runPython, startPythonWebhook } from '../harness/seed-python.ts'

/** The printed code against a real gate: work orders in test mode, really cloned, verified and announced. */
const absent = isSkipped(absentSeeds())
const lacksPython = isSkipped(lackingPython())

let here: Neighbourhood
let repository: string
beforeAll(async () => {
  if (absent) return
  here = await startNeighbourhood([], { env: { AGENTGATE_ALLOWED_PRIVATE_HOSTS: '127.0.0.0/8' } })
  const files = { 'README.md': '# seeds\n' }
  repository = (await here.host.createRepository({ owner: 'acme', name: 'seeds', files })).url
})
afterAll(() => here?.[Symbol.asyncDispose]())

/** The reader's client: the SDK, where the reader's public address is the receiver of this test. */
function clientFor(receiver?: string): sdk.AgentGate {
  const client = here.gate.testClient
  if (receiver === undefined) return client
  const create: typeof client.workOrders.create = (request, options) =>
    client.workOrders.create({ ...request, webhookUrl: `${receiver}/webhooks/agentgate` }, options)
  return Object.assign(Object.create(client), { workOrders: { create } })
}

function seedFunction(block: TypeScriptBlock, name: string, supplied: Record<string, unknown>): SeedFunction {
  const found = loadSeedBlock(block, supplied)?.[name]
  if (!found) throw new Error(`${block} declares no ${name}`)
  return found
}

interface Deferred<T> {
  promise: Promise<T>
  resolve: (value: T) => void
}

function deferred<T>(): Deferred<T> {
  let resolve: (value: T) => void = () => undefined
  const promise = new Promise<T>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}

/** As long as the snippet sleeps, the run it polls goes on. */
const nextFinal = (): Promise<unknown> => new Promise((resolve) => setImmediate(resolve))

const submit = (url: string): Promise<Response> =>
  fetch(`${url}/api/tasks`, {
    method: 'POST',
    body: JSON.stringify({ taskPrompt: 'Leave a note', repo: repository }),
  })

describe.skipIf(absent)('the printed TypeScript, against a real gate', () => {
  test('polls a work order to its pull request', async () => {
    const runTask = seedFunction('Basic Integration', 'runTask', { client: clientFor(), sleep: nextFinal })
    await expect(runTask('Leave a note', repository)).resolves.toEqual({
      success: true,
      prUrl: expect.any(String),
    })
  })

  test('is told of the end by a webhook whose signature holds', async () => {
    await using application = await startSeedApp()
    const tasks = new SeedTasks()
    const notified = deferred<{ runId: string }>()
    loadSeedBlock('Webhook-Driven', {
      app: application.app,
      client: clientFor(application.url),
      db: { tasks },
      generateId: () => 'task-1',
      verifySignature: sdk.createVerifier(await testSecret()),
      notifyUser: async (data: { runId: string }) => notified.resolve(data),
    })
    await expect((await submit(application.url)).json()).resolves.toEqual({ taskId: 'task-1' })
    const { runId } = await notified.promise
    await application.idle()
    expect(tasks.rows).toMatchObject([
      { id: 'task-1', runId, status: 'completed', prUrl: expect.any(String) },
    ])
    expect(application.failures).toEqual([])
  })

  test('carries an order and its result through queues', async () => {
    await using application = await startSeedApp()
    const tasks = new SeedTasks()
    const queue = new SeedQueue()
    const sent = deferred<unknown[]>()
    loadSeedBlock('Queue-Based', {
      app: application.app,
      queue,
      client: clientFor(application.url),
      db: { tasks },
      generateId: () => 'task-2',
      sendNotification: async (...args: unknown[]) => sent.resolve(args),
    })
    await submit(application.url)
    await sent.promise
    expect(tasks.rows).toMatchObject([{ id: 'task-2', status: 'completed', result: { status: 'succeeded' } }])
  })

  test('attributes the result to the tenant it was ordered for', async () => {
    await using application = await startSeedApp()
    const billed = deferred<unknown>()
    loadSeedBlock('Multi-Tenant', {
      app: application.app,
      client: clientFor(application.url),
      authenticateTenant(request: Record<string, unknown>, _response: unknown, next: () => void) {
        request['tenant'] = { id: 'acme', plan: 'pro', webhookUrl: here.receiver.url }
        request['user'] = { id: 'user-1' }
        next()
      },
      recordUsage: async (usage: { credits?: number }) => {
        if (usage.credits !== undefined) billed.resolve(usage)
      },
    })
    const { taskId } = (await (await submit(application.url)).json()) as { taskId: string }
    await expect(billed.promise).resolves.toEqual({ tenantId: 'acme', credits: 0, runId: taskId })
    const forwarded = await here.receiver.wait(
      ({ body }) => body.includes(taskId) && body.includes('run.completed'),
    )
    expect(JSON.parse(forwarded.body)).toMatchObject({ data: { tenantContext: { tenantUserId: 'user-1' } } })
  })

  test('retries what the gate wants retried, and degrades to people', async () => {
    const supplied = {
      client: clientFor(),
      sleep: nextFinal,
      RateLimitError: sdk.RateLimitError,
      ServerError: sdk.ServerError,
    }
    const submitWithRetry = seedFunction('Retry with Backoff', 'submitWithRetry', supplied)
    const order = { taskPrompt: 'Leave a note', workspaceSource: { type: 'git', repository } }
    await expect(submitWithRetry(order)).resolves.toMatchObject({ status: 'pending' })
    await expect(submitWithRetry({ ...order, taskPrompt: '' })).rejects.toBeInstanceOf(sdk.BadRequestError)

    const queued: unknown[] = []
    const runTask = seedFunction('Basic Integration', 'runTask', { client: clientFor(), sleep: nextFinal })
    const fallback = seedFunction('Graceful Degradation', 'runTaskWithFallback', {
      runTask,
      logger: { error: () => undefined },
      manualQueue: { add: async (task: unknown) => void queued.push(task) },
    })
    await expect(fallback('', repository)).resolves.toMatchObject({ source: 'fallback' })
    await expect(fallback('Leave a note', repository)).resolves.toMatchObject({ source: 'agentgate' })
    expect(queued).toHaveLength(1)
  })
})

describe.skipIf(absent || lacksPython)('the printed Python, against a real gate', () => {
  const environment = () => ({ AGENTGATE_API_KEY: here.gate.testKey, AGENTGATE_BASE_URL: here.gate.url })

  test('places an order and looks its run up', async () => {
    const { code, stdout } = await runPython('Basic Usage', environment())
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: expect.stringMatching(/^Run ID: run_\w+\nStatus: (pending|running|failed)\n$/),
    })
  })

  test('is told what is wrong with an order', async () => {
    const { code, stdout } = await runPython('Error Handling', environment(), ['', repository])
    expect({ code, stdout }).toEqual({ code: 1, stdout: expect.stringMatching(/^Error: .+/) })
  })

  test('accepts the webhooks of the gate in Flask', async () => {
    await using receiver = await startPythonWebhook({ ...environment(), WEBHOOK_SECRET: await testSecret() })
    const order = await clientFor(receiver.url).workOrders.create({
      taskPrompt: 'Leave a note',
      workspaceSource: { type: 'git', repository },
    })
    await here.gate.testClient.runs.wait(order.runId)
    await expect.poll(() => receiver.printed(), { timeout: 10_000 }).toContain('Received: run.completed')
  })
})

const testSecret = async (): Promise<string> => (await here.gate.testClient.webhookSecret.get()).secret ?? ''
