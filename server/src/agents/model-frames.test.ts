import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { startModelServer } from '../../../demo/model-server.ts'
import { systemClock } from '../lib/clock.ts'
import { Secret } from '../lib/secret.ts'
import { MAX_ANSWER_CHARACTERS, modelClient } from './model-client.ts'
import { modelFetch } from './model-frames.ts'
import type { ModelAnswer } from './model-step.ts'

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

interface Provider {
  url: string
  /** Bytes that were written before the caller left. */
  sent(): number
}

/** A provider that sends pieces for as long as there are any and somebody listens. */
async function serve(
  pieces: Iterable<string | Uint8Array>,
  head: { status?: number } = {},
): Promise<Provider> {
  let sent = 0
  const send = async (response: ServerResponse): Promise<void> => {
    const left = new Promise<void>((resolve) => response.once('close', resolve))
    for (const piece of pieces) {
      if (response.destroyed) return
      sent += piece.length
      if (response.write(piece)) continue
      await Promise.race([new Promise<void>((resolve) => response.once('drain', resolve)), left])
    }
    response.end()
  }
  const server = createServer((_request, response) => {
    const type = head.status === undefined ? 'text/event-stream' : 'application/json'
    response.writeHead(head.status ?? 200, { 'content-type': type })
    void send(response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(
    () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  )
  const { port } = server.address() as AddressInfo // it listens on a port
  return { url: `http://127.0.0.1:${port}/v1`, sent: () => sent }
}

const frame = (body: object): string => `data: ${JSON.stringify(body)}\n\n`
const said = (content: string): string => frame({ id: 'c', choices: [{ index: 0, delta: { content } }] })

function* endless(piece: string): Generator<string> {
  for (;;) yield piece
}

const read = async (provider: Provider): Promise<string> =>
  (await modelFetch(() => undefined)(provider.url)).text()

type Kind = 'openai' | 'openai-chat' | 'anthropic' | 'openai-compatible'

function ask(kind: Kind, url: string): Promise<ModelAnswer> {
  const client = modelClient({
    providers: { p: { kind, baseUrl: url, apiKey: new Secret('key-of-a-test') } },
    maxOutputTokens: 1000,
    stepTimeoutMs: 60_000,
    silenceTimeoutMs: 30_000,
    clock: systemClock,
  })
  const messages = [{ role: 'user', content: 'Go.' }]
  const inputSchema = { type: 'object', properties: { content: { type: 'string' } } }
  const tools = [{ name: 'write_file', description: 'Writes.', inputSchema }]
  return client.step({ model: 'p/m', instructions: 'A test.', messages, tools }, new AbortController().signal)
}

describe('frames of a stream', () => {
  test('that arrive together and say more of the same become one, and their order stays', async () => {
    const provider = await serve([
      said('one ') +
        said('two ') +
        frame({ id: 'c', choices: [{ index: 1, delta: { content: 'x' } }] }) +
        said('three'),
    ])
    expect(await read(provider)).toBe(
      said('one two ') + frame({ id: 'c', choices: [{ index: 1, delta: { content: 'x' } }] }) + said('three'),
    )
  })

  test.each([
    ['text of Responses', { type: 'response.output_text.delta', item_id: 'm' }, 'delta'],
    ['arguments of Responses', { type: 'response.function_call_arguments.delta', item_id: 'f' }, 'delta'],
  ])('%s are joined whatever their number', async (_name, body, member) => {
    const pieces = ['a', 'b'].map((text, n) => frame({ ...body, [member]: text, sequence_number: n }))
    const joined = frame({ ...body, [member]: 'ab', sequence_number: 0 })
    expect(await read(await serve([pieces.join('')]))).toBe(joined)
  })

  test('of other forms go on byte for byte', async () => {
    const strange = [
      ': a comment\n\n',
      'event: ping\ndata: {"type":"ping"}\n\n',
      'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}],"usage":{"n":1.0}}\n\n',
      'data: not json\n\n',
      'data: {"type":"x.delta","delta":{"no":"text"}}\n\n',
      'data: {"choices":[{"delta":{"content":"a","role":"assistant"}},{"delta":{}}]}\r\n\r\n',
      'data: [DONE]\n\n',
      'data: {"cut',
    ].join('')
    expect(await read(await serve([strange]))).toBe(strange)
  })

  test('are whole again when they arrive in parts, in the middle of a character too', async () => {
    const bytes = Buffer.from(said('grüße ') + said('🙂'))
    const provider = await serve(Array.from(bytes, (byte) => Uint8Array.of(byte)))
    const texts = [...(await read(provider)).matchAll(/"content":"([^"]*)"/g)].map(([, text]) => text)
    expect(texts.join('')).toBe('grüße 🙂')
  })

  test('without an end are refused before they fill the memory', async () => {
    const provider = await serve(endless('x'.repeat(64 * 1024)))
    await expect(read(provider)).rejects.toThrow()
    expect(provider.sent()).toBeLessThan(32 * 2 ** 20)
  })
})

test('an error that never ends is cut', async () => {
  const provider = await serve(endless('x'.repeat(64 * 1024)), { status: 500 })
  expect(await ask('openai-chat', provider.url)).toMatchObject({ outcome: 'failed', retryable: true })
  expect(provider.sent()).toBeLessThan(16 * 2 ** 20)
})

test('an answer without an end is refused by name, is paid for, and lets others run', async () => {
  const provider = await serve(endless(said('words and more of them').repeat(100)))
  let turns = 0
  let over = false
  const others = (): void => {
    turns++
    if (!over) setImmediate(others)
  }
  others()
  const answer = await ask('openai-chat', provider.url)
  over = true
  expect(answer).toMatchObject({
    outcome: 'failed',
    reason: 'model_error',
    message: 'The model provider answered with more than 1,048,576 characters.',
    retryable: false,
  })
  const spent = answer.outcome === 'failed' ? (answer.spent?.outputTokens ?? 0) : 0
  expect(spent).toBeGreaterThan(MAX_ANSWER_CHARACTERS / 4)
  expect(turns).toBeGreaterThan(100)
}, 60_000)

describe.each(['openai', 'openai-chat', 'anthropic', 'openai-compatible'] as const)('%s', (kind) => {
  test('an answer of 5 MB is refused by name', async () => {
    const server = await startModelServer({
      script: [{ text: 'five words of some length '.repeat(200_000) }],
    })
    closing.push(() => server.close())
    expect(await ask(kind, server.url)).toMatchObject({
      outcome: 'failed',
      reason: 'model_error',
      message: expect.stringContaining('more than'),
    })
  }, 60_000)

  test('a file of 300 KB that is written arrives whole, like the text before it', async () => {
    const content = 'a line of code {"with": "quotes"}\n'.repeat(9_000)
    const text = 'I write a large file. '.repeat(1_000)
    const calls = [{ tool: 'write_file', arguments: { content } }]
    const server = await startModelServer({ script: [{ text, calls }] })
    closing.push(() => server.close())
    const answer = await ask(kind, server.url)
    expect(answer).toMatchObject({ outcome: 'answered', text })
    expect(answer.outcome === 'answered' && answer.calls[0]?.arguments).toEqual({ content })
  }, 60_000)
})
