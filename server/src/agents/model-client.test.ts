import { afterEach, describe, expect, test } from 'vitest'
import {
  type ModelScript,
  type ModelServer,
  type ModelStep,
  startModelServer,
} from '../../../demo/model-server.ts'
import type { JsonObject } from '../domain/json.ts'
import { systemClock } from '../lib/clock.ts'
import { Secret } from '../lib/secret.ts'
import { modelClient } from './model-client.ts'
import type { ModelAnswer, ModelRequest } from './model-step.ts'

const KINDS = [
  ['openai', '/v1/responses', 'gpt-5'],
  ['openai-chat', '/v1/chat/completions', 'gpt-4.1'],
  ['anthropic', '/v1/messages', 'claude-sonnet-4-5'],
  ['openai-compatible', '/v1/chat/completions', 'meta/llama-4'],
] as const

const KEY = 'sk-canary-0123456789'
let server: ModelServer | null = null

afterEach(async () => {
  await server?.close()
  server = null
})

async function serve(script: ModelScript): Promise<ModelServer> {
  server = await startModelServer({ script })
  return server
}

interface Asked {
  answer: ModelAnswer
  drafts: string[]
}

async function ask(
  kind: (typeof KINDS)[number][0],
  change: Partial<ModelRequest> & { signal?: AbortSignal; silenceMs?: number; stepMs?: number } = {},
): Promise<Asked> {
  const { signal, silenceMs, stepMs, ...request } = change
  const client = modelClient({
    providers: { p: { kind, baseUrl: server?.url ?? 'http://127.0.0.1:1/v1', apiKey: new Secret(KEY) } },
    maxOutputTokens: 1000,
    stepTimeoutMs: stepMs ?? 20_000,
    silenceTimeoutMs: silenceMs ?? 10_000,
    clock: systemClock,
  })
  const drafts: string[] = []
  const answer = await client.step(
    {
      model: `p/${KINDS.find(([known]) => known === kind)?.[2]}`,
      instructions: 'You are a test.',
      messages: [{ role: 'user', content: 'Go.' }],
      tools: [
        {
          name: 'read_file',
          description: 'Reads.',
          inputSchema: {
            type: 'object',
            properties: { path: { type: 'string' }, line: { type: 'integer' } },
            required: ['path'],
            additionalProperties: false,
          },
        },
      ],
      onText: (delta) => drafts.push(delta),
      ...request,
    },
    signal ?? new AbortController().signal,
  )
  return { answer, drafts }
}

const failure = async (...args: Parameters<typeof ask>): Promise<ModelAnswer> => (await ask(...args)).answer

describe.each(KINDS)('%s', (kind, path, model) => {
  test('an answer comes with its text, calls, exact usage and request id', async () => {
    const usage = { inputTokens: 120, outputTokens: 34, cachedTokens: 20 }
    await serve([
      {
        text: 'I read the two files.',
        calls: [
          { tool: 'read_file', arguments: { path: 'a' } },
          { tool: 'read_file', arguments: { path: 'b', line: 2 } },
        ],
        usage,
      },
    ])
    const { answer, drafts } = await ask(kind)
    expect(answer).toMatchObject({
      outcome: 'answered',
      text: 'I read the two files.',
      finish: 'tool-calls',
      calls: [
        { providerId: 'toolu_0_0', name: 'read_file', arguments: { path: 'a' } },
        { providerId: 'toolu_0_1', name: 'read_file', arguments: { path: 'b', line: 2 } },
      ],
      usage,
      usageReported: true,
      providerRequestId: 'req_scripted0',
    })
    expect(drafts.join('')).toBe('I read the two files.')
    expect(server?.requests).toMatchObject([{ path, model, tools: ['read_file'], lastUserText: 'Go.' }])
    expect(JSON.stringify(server?.requests[0]?.headers)).toContain(KEY)
  })

  test('the conversation goes on from messages that were stored as JSON, reasoning with its seal', async () => {
    await serve([
      {
        reasoning: 'Hm, let me think.',
        text: 'I read.',
        calls: [{ tool: 'read_file', arguments: { path: 'a' } }],
      },
      { text: 'It says so.' },
    ])
    const first = (await ask(kind)).answer
    if (first.outcome !== 'answered') throw new Error(first.outcome)
    const stored = JSON.parse(JSON.stringify(first.messages)) as JsonObject[]
    const result = {
      type: 'tool-result',
      toolCallId: 'toolu_0_0',
      toolName: 'read_file',
      output: { type: 'text', value: 'the content' },
    }
    const messages = [{ role: 'user', content: 'Go.' }, ...stored, { role: 'tool', content: [result] }]
    const second = (await ask(kind, { messages })).answer
    expect(second).toMatchObject({ outcome: 'answered', text: 'It says so.', finish: 'stop', calls: [] })

    const body = JSON.stringify(server?.requests[1]?.body)
    expect(body).toContain('the content')
    expect(body).not.toContain('item_reference')
    expect(server?.requests[1]?.assistantTurns).toBe(1)
    if (kind === 'openai') {
      expect(server?.requests[1]?.body).toMatchObject({
        store: false,
        include: ['reasoning.encrypted_content'],
      })
      expect(body).toContain('sealed:Hm, let me think.')
      expect(server?.requests[1]?.body['tools']).toMatchObject([{ strict: false }])
    }
    if (kind === 'anthropic') expect(body).toContain('sealed:Hm, let me think.')
  })

  test('arguments that are no JSON object are named, and the call stays answerable', async () => {
    await serve([
      {
        calls: [
          { tool: 'read_file', arguments: '{"path": "a' },
          { tool: 'read_file', arguments: '[1]' },
        ],
      },
    ])
    const { answer } = await ask(kind)
    if (answer.outcome !== 'answered') throw new Error(JSON.stringify(answer))
    expect(answer.calls).toMatchObject([
      { arguments: null, malformed: expect.stringContaining('{"path": "a') },
      { arguments: null, malformed: expect.stringContaining('[1]') },
    ])
    expect(answer.messages.map((message) => message['role'])).toEqual(['assistant'])
    expect(JSON.stringify(answer.messages)).toContain('"input":{}')
  })

  test('a call of a tool that does not exist keeps its name and arguments', async () => {
    const names = ['launch', 'constructor', '__proto__']
    await serve([{ calls: names.map((tool) => ({ tool, arguments: { at: 'dawn' } })) }])
    const { answer } = await ask(kind)
    expect(answer).toMatchObject({
      outcome: 'answered',
      calls: names.map((name) => ({ name, arguments: { at: 'dawn' } })),
    })
  })

  test.each<[ModelStep['finish'], string]>([
    ['length', 'length'],
    ['content-filter', 'content-filter'],
  ])('an answer that ends by %s counts', async (finish, expected) => {
    await serve([{ text: 'Once upon a', ...(finish && { finish }) }])
    expect(await failure(kind)).toMatchObject({ outcome: 'answered', finish: expected, text: 'Once upon a' })
  })

  test('usage that the provider does not tell is an estimate and marked so', async () => {
    if (kind === 'anthropic') return // the protocol always carries usage
    await serve([{ text: 'Hello there.', usage: null }])
    const { answer } = await ask(kind)
    if (answer.outcome !== 'answered') throw new Error(JSON.stringify(answer))
    expect(answer.usageReported).toBe(false)
    expect(answer.usage.inputTokens).toBeGreaterThan(50)
    expect(answer.usage.outputTokens).toBe(4)
  })

  test.each([
    [400, 'model_error', false],
    [401, 'provider_auth_failed', false],
    [402, 'model_error', false],
    [403, 'provider_auth_failed', false],
    [404, 'model_error', false],
    [413, 'model_error', false],
    [429, 'model_error', true],
    [500, 'model_error', true],
    [503, 'model_error', true],
    [529, 'model_error', true],
  ])('status %d is %s, worth another try: %s', async (status, reason, retryable) => {
    await serve([{ fault: { kind: 'status', status, message: `Sorry, ${KEY} is not liked.` } }])
    const answer = await failure(kind)
    expect(answer).toMatchObject({ outcome: 'failed', reason, retryable, spent: null })
    expect(answer).toMatchObject({ message: expect.stringContaining('Sorry, [secret] is not liked.') })
    // The SDK did not try again by itself.
    expect(server?.requests).toHaveLength(1)
  })

  test('Retry-After is understood in seconds and as a date', async () => {
    await serve([{ fault: { kind: 'status', status: 429, retryAfter: '7' } }])
    expect(await failure(kind)).toMatchObject({ retryAfterMs: 7000 })
    await server?.close()
    const at = new Date(Date.now() + 60_000).toUTCString()
    await serve([{ fault: { kind: 'status', status: 503, retryAfter: at } }])
    const { answer } = await ask(kind)
    if (answer.outcome !== 'failed') throw new Error(answer.outcome)
    expect(answer.retryAfterMs).toBeGreaterThan(55_000)
    expect(answer.retryAfterMs).toBeLessThanOrEqual(60_000)
  })

  test('a stream that is cut does not count and its beginning is paid for', async () => {
    await serve([{ text: 'A long story about nothing at all.', fault: { kind: 'cut' } }])
    const answer = await failure(kind)
    expect(answer).toMatchObject({ outcome: 'failed', reason: 'model_error', retryable: true })
    expect(answer).toMatchObject({ spent: { inputTokens: expect.any(Number) } })
  })

  test('a connection that is closed without an answer is worth another try', async () => {
    await serve([{ text: 'x', fault: { kind: 'cut', after: 0 } }])
    expect(await failure(kind)).toMatchObject({ outcome: 'failed', retryable: true, spent: null })
  })

  test('a provider that cannot be reached is worth another try', async () => {
    expect(await failure(kind)).toMatchObject({ outcome: 'failed', reason: 'model_error', retryable: true })
  })

  test('an answer without a reason for its end does not count', async () => {
    await serve([{ text: 'Half of', finish: 'none' }])
    expect(await failure(kind)).toMatchObject({ outcome: 'failed', reason: 'model_error', retryable: true })
  })

  test.each([0, 4])('silence after %d frames ends the call', async (after) => {
    await serve([{ text: 'A long story about nothing at all.', fault: { kind: 'hang', after } }])
    expect(await failure(kind, { silenceMs: 200 })).toMatchObject({
      outcome: 'failed',
      message: 'The model provider went silent.',
      retryable: true,
    })
  })

  test('a call that takes too long is ended', async () => {
    await serve([{ text: 'x', delayMs: 60_000 }])
    expect(await failure(kind, { stepMs: 200 })).toMatchObject({
      outcome: 'failed',
      message: 'The model provider took too long over its answer.',
    })
  })

  test('canceling ends the call at once, and tells what was said so far', async () => {
    const heard = await serve([{ text: 'A long story.', fault: { kind: 'hang' } }])
    const stop = new AbortController()
    const asked = ask(kind, { signal: stop.signal, onText: () => stop.abort() })
    const { answer } = await asked
    expect(answer).toMatchObject({ outcome: 'canceled', spent: { cachedTokens: 0 } })
    expect(answer.outcome === 'canceled' && answer.spent?.inputTokens).toBeGreaterThan(0)
    expect(heard.requests).toHaveLength(1)
  })

  test('a call that is canceled before it began asks nobody', async () => {
    await serve([{ text: 'x' }])
    expect(await failure(kind, { signal: AbortSignal.abort() })).toEqual({
      outcome: 'canceled',
      spent: null,
    })
    expect(server?.requests).toHaveLength(0)
  })

  test('text that a database cannot keep is mended', async () => {
    await serve([{ text: 'zero \0 half \ud800.', calls: [{ tool: 'read_file', arguments: { path: '\0' } }] }])
    const { answer } = await ask(kind)
    const text = JSON.stringify(answer)
    expect(text).toContain('zero \ufffd half')
    expect(text).not.toMatch(/\\u0000|\\ud800/)
  })
})

test('an account without quota is not asked again', async () => {
  await serve([{ fault: { kind: 'status', status: 429, type: 'insufficient_quota' } }])
  expect(await failure('openai')).toMatchObject({ reason: 'model_error', retryable: false })
})

test('a model of a provider that nobody configured is named', async () => {
  expect(await failure('openai', { model: 'else/gpt' })).toMatchObject({
    reason: 'driver_unavailable',
    message: 'No provider is configured for the model else/gpt.',
  })
  expect(await failure('openai', { model: 'constructor/x' })).toMatchObject({ reason: 'driver_unavailable' })
})

test.each([
  [
    '/responses',
    { model: 'm', input: 'Hi' },
    { status: 'completed', output: [{}, { type: 'function_call' }] },
  ],
  [
    '/chat/completions',
    { model: 'm', messages: [] },
    { choices: [{ finish_reason: 'tool_calls', message: { content: 'Hi.', tool_calls: [{}] } }] },
  ],
  [
    '/messages',
    { model: 'm', messages: [] },
    { stop_reason: 'tool_use', content: [{ text: 'Hi.' }, { type: 'tool_use', input: { path: 'a' } }] },
  ],
])('the scripted model answers %s without streaming too', async (path, body, expected) => {
  const { url } = await serve([{ text: 'Hi.', calls: [{ tool: 'read_file', arguments: { path: 'a' } }] }])
  const response = await fetch(`${url}${path}`, { method: 'POST', body: JSON.stringify(body) })
  expect(await response.json()).toMatchObject(expected)
})
