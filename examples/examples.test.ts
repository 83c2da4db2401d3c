import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { AgentGate } from 'agentgate-sdk'
import { Webhook } from 'standardwebhooks'
import { describe, expect, test } from 'vitest'
import { refusal, type Script, startScriptedServer } from '../sdk/typescript/test/scripted-server.ts'
import { type ManualTask, runOrHandOver } from './fallback.ts'
import { runTask } from './polling.ts'
import { submitThroughOutage } from './retry.ts'
import { startReceiver, submit } from './webhook-driven.ts'

const TASK = { repository: 'https://git.example/a.git', taskPrompt: 'Fix the test' }
const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`

const ok = (body: unknown): Script => ({ status: 200, body })
const created = ok({ workOrderId: 'wo_1', runId: 'run_1', status: 'pending', metadata: { requestId: 'r1' } })
const events = ok({
  data: [
    { seq: 1, type: 'run.created', data: {} },
    { seq: 2, type: 'run.completed', data: {} },
  ],
  nextCursor: null,
})
const succeeded = ok({
  id: 'run_1',
  state: 'completed',
  status: 'succeeded',
  prUrl: 'https://git.example/pulls/1',
})

const clientOf = (server: { url: string }): AgentGate =>
  new AgentGate({ apiKey: 'org_test_1', baseUrl: server.url, maxRetries: 0 })

test('polling tells the events and ends with the pull request', async () => {
  await using server = await startScriptedServer(created, events, succeeded)
  const lines: string[] = []
  const run = await runTask(clientOf(server), TASK, (line) => lines.push(line))

  expect(run.prUrl).toBe('https://git.example/pulls/1')
  expect(lines).toEqual(['1 run.created', '2 run.completed'])
})

test('polling runs by itself when started directly', async () => {
  await using server = await startScriptedServer(created, events, succeeded)
  const path = fileURLToPath(new URL('polling.ts', import.meta.url))
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import', 'tsx', path, TASK.repository, TASK.taskPrompt],
    { env: { ...process.env, AGENTGATE_API_KEY: 'org_test_1', AGENTGATE_BASE_URL: server.url } },
  )
  expect(stdout).toBe('https://git.example/pulls/1\n')
  expect(JSON.parse(server.seen[0]?.body ?? '')).toMatchObject({ taskPrompt: TASK.taskPrompt })
})

describe('webhook-driven', () => {
  const deliver = (url: string, secret = SECRET): Promise<Response> => {
    const body = JSON.stringify({ id: 'evt_1', type: 'run.completed', data: {} })
    const now = new Date()
    const headers = {
      'webhook-id': 'evt_1',
      'webhook-timestamp': String(Math.floor(now.getTime() / 1000)),
      'webhook-signature': new Webhook(secret).sign('evt_1', now, body),
    }
    return fetch(url, { method: 'POST', headers, body })
  }

  test('the receiver takes signed events, each once', async () => {
    const taken: string[] = []
    await using receiver = await startReceiver(SECRET, (event) => taken.push(event.id))
    const another = `whsec_${Buffer.alloc(32, 8).toString('base64')}`

    expect((await deliver(receiver.url)).status).toBe(200)
    expect((await deliver(receiver.url)).status).toBe(200)
    expect((await deliver(receiver.url, another)).status).toBe(401)
    expect(taken).toEqual(['evt_1'])
  })

  test('the order carries the address and comes back with its request id', async () => {
    await using server = await startScriptedServer(created)
    const order = { ...TASK, webhookUrl: 'https://app.example/hook', requestId: 'r1' }
    await expect(submit(clientOf(server), order)).resolves.toEqual({ runId: 'run_1', requestId: 'r1' })
    expect(JSON.parse(server.seen[0]?.body ?? '')).toMatchObject({ webhookUrl: 'https://app.example/hook' })
  })
})

describe('retry', () => {
  const order = () => ({
    taskPrompt: TASK.taskPrompt,
    workspaceSource: { type: 'git' as const, repository: TASK.repository },
  })

  test('an order that was refused for now is placed later under the same key', async () => {
    const limited: Script = { status: 429, headers: { 'retry-after': '0' } }
    await using server = await startScriptedServer(limited, limited, created)
    await expect(submitThroughOutage(clientOf(server), order())).resolves.toMatchObject({ runId: 'run_1' })
    expect(new Set(server.seen.map((request) => request.headers['idempotency-key'])).size).toBe(1)
  })

  test('a wrong order is not placed again, and rounds come to an end', async () => {
    await using server = await startScriptedServer(refusal(400, 'MISSING_FIELD'), { status: 503 })
    await expect(submitThroughOutage(clientOf(server), order())).rejects.toMatchObject({ status: 400 })
    await expect(submitThroughOutage(clientOf(server), order(), 1)).rejects.toMatchObject({ status: 503 })
    expect(server.seen).toHaveLength(2)
  })
})

describe('fallback', () => {
  async function runWith(scripts: Script[], limitMs = 60_000) {
    await using server = await startScriptedServer(...scripts)
    const handed: ManualTask[] = []
    const handOver = async (task: ManualTask) => void handed.push(task)
    const outcome = await runOrHandOver(clientOf(server), { ...TASK, limitMs }, handOver)
    return { outcome, handed, asked: server.seen.map(({ method, path }) => `${method} ${path}`) }
  }

  test('what the gate does is not handed over', async () => {
    const { outcome, handed } = await runWith([created, succeeded])
    expect(outcome).toEqual({ source: 'agentgate', prUrl: 'https://git.example/pulls/1' })
    expect(handed).toEqual([])
  })

  test('what the gate refuses or fails at is handed over with the reason', async () => {
    const refused = await runWith([refusal(402, 'INSUFFICIENT_CREDITS')])
    expect(refused.handed).toEqual([{ ...TASK, reason: 'It is INSUFFICIENT_CREDITS.' }])

    const failure = ok({ state: 'failed', status: 'failed', error: { message: 'Gates kept failing.' } })
    const failed = await runWith([created, failure])
    expect(failed.outcome).toEqual({ source: 'people', reason: 'Gates kept failing.' })
    expect(failed.asked).toHaveLength(2)
  })

  test('what takes too long is canceled and handed over', async () => {
    const { handed, asked } = await runWith([created, { hang: true }, ok({})], 50)
    expect(handed).toHaveLength(1)
    expect(asked.at(-1)).toBe('POST /v1/runs/run_1/cancel')
  })
})
