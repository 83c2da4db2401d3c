import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import type { JsonObject, JsonValue } from '../server/src/domain/json.ts'
import { isJsonObject } from '../server/src/domain/json.ts'
import type { TokenUsage } from '../server/src/domain/money.ts'
import {
  type Answer,
  answerBody,
  answerFrames,
  type Conversation,
  errorBody,
  type Frame,
  readConversation,
  type Wire,
} from './model-wire.ts'

/** Something that goes wrong; with `times` only so often for one point of one conversation, else always. */
export type ModelFault = (
  | { kind: 'status'; status: number; retryAfter?: string; message?: string; type?: string }
  /** The connection is torn down; `after` frames (default half of them) were sent. */
  | { kind: 'cut'; after?: number }
  /** Silence until the client goes away; with `after: 0` not even a status comes. */
  | { kind: 'hang'; after?: number }
) & { times?: number }

/** One answer of the scripted model. */
export interface ModelStep {
  text?: string
  reasoning?: string
  /** Arguments given as text go over the wire as they are: broken JSON is possible. */
  calls?: { tool: string; arguments: JsonObject | string }[]
  /** `none` ends the answer cleanly without saying why it ended. */
  finish?: 'length' | 'content-filter' | 'none'
  /** `null` reports no figures; default: characters divided by four. */
  usage?: TokenUsage | null
  delayMs?: number
  fault?: ModelFault
}

export interface ModelRequest extends Conversation {
  wire: Wire
  model: string
  path: string
  stream: boolean
  headers: IncomingMessage['headers']
  body: JsonObject
}

/**
 * The answers in order: a request gets the step whose index is the number of assistant turns that it carries,
 * so a repeated or resumed request gets the same answer. A function chooses by anything in the request, such
 * as the last text of the user and the turns since.
 */
export type ModelScript = ModelStep[] | ((request: ModelRequest) => ModelStep)

export interface ModelServer {
  /** Base URL for every protocol, ending in `/v1`. */
  url: string
  /** Every request so far, in order of arrival, the failed ones too. */
  requests: ModelRequest[]
  close(): Promise<void>
}

const WIRES: readonly [suffix: string, wire: Wire][] = [
  ['/responses', 'responses'],
  ['/chat/completions', 'chat'],
  ['/messages', 'messages'],
]

const LAST_STEP: ModelStep = { text: 'Nothing is left to do.' }

/** A model over the real wire protocols of OpenAI (Responses, Chat Completions) and Anthropic (Messages). */
export async function startModelServer(options: {
  script: ModelScript
  port?: number
}): Promise<ModelServer> {
  const requests: ModelRequest[] = []
  const faulted = new Map<string, number>()
  const server = createServer((incoming, response) => {
    answerRequest(incoming, response).catch(() => response.destroy())
  })

  async function answerRequest(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(incoming.url ?? '/', 'http://model').pathname
    const wire = WIRES.find(([suffix]) => path.endsWith(suffix))?.[1]
    if (wire === undefined || incoming.method !== 'POST') {
      sendJson(response, 404, errorBody('chat', 404, `No such endpoint: ${path}`))
      return
    }
    const body = await readJson(incoming)
    if (!isJsonObject(body)) {
      sendJson(response, 400, errorBody(wire, 400, 'The body is not a JSON object.'))
      return
    }
    const request: ModelRequest = {
      ...readConversation(wire, body),
      wire,
      model: typeof body['model'] === 'string' ? body['model'] : '',
      path,
      stream: body['stream'] === true,
      headers: incoming.headers,
      body,
    }
    requests.push(request)
    const step = stepFor(options.script, request)
    if (step.delayMs !== undefined) await wait(step.delayMs)
    await sendStep(response, request, { step, fault: dueFault(faulted, request, step) })
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(options.port ?? 0, '127.0.0.1', resolve)
  })
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : options.port
  return {
    url: `http://127.0.0.1:${port}/v1`,
    requests,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

const stepFor = (script: ModelScript, request: ModelRequest): ModelStep =>
  typeof script === 'function' ? script(request) : (script[request.assistantTurns] ?? LAST_STEP)

function dueFault(faulted: Map<string, number>, request: ModelRequest, step: ModelStep): ModelFault | null {
  if (step.fault === undefined) return null
  const point = [request.model, request.assistantTurns, request.lastUserText].join('\n')
  const before = faulted.get(point) ?? 0
  if (before >= (step.fault.times ?? Number.POSITIVE_INFINITY)) return null
  faulted.set(point, before + 1)
  return step.fault
}

async function sendStep(
  response: ServerResponse,
  request: ModelRequest,
  { step, fault }: { step: ModelStep; fault: ModelFault | null },
): Promise<void> {
  if (fault?.kind === 'status') {
    if (fault.retryAfter !== undefined) response.setHeader('retry-after', fault.retryAfter)
    const message = fault.message ?? `The scripted model answers ${fault.status}.`
    sendJson(response, fault.status, errorBody(request.wire, fault.status, message, fault.type))
    return
  }
  if (fault?.after === 0) {
    if (fault.kind === 'cut') response.destroy()
    return
  }
  const answer = toAnswer(step, request)
  response.setHeader('x-request-id', `req_${answer.id}`)
  response.setHeader('request-id', `req_${answer.id}`)
  const chunks = request.stream
    ? answerFrames(request.wire, answer, request.body).map(toText)
    : [JSON.stringify(answerBody(request.wire, answer))]
  response.writeHead(200, { 'content-type': request.stream ? 'text/event-stream' : 'application/json' })
  if (fault === null) {
    response.end(chunks.join(''))
    return
  }
  const sent = chunks.slice(0, fault.after ?? Math.ceil(chunks.length / 2)).join('')
  // A body that is one chunk is cut inside it.
  const part = chunks.length > 1 ? sent : sent.slice(0, sent.length / 2)
  await new Promise<void>((resolve) => response.write(part, () => resolve()))
  if (fault.kind === 'cut') response.destroy()
}

function toAnswer(step: ModelStep, request: ModelRequest): Answer {
  const calls = (step.calls ?? []).map((call, at) => ({
    id: `toolu_${request.assistantTurns}_${at}`,
    name: call.tool,
    arguments: typeof call.arguments === 'string' ? call.arguments : JSON.stringify(call.arguments),
  }))
  const text = step.text ?? ''
  const said = text.length + calls.reduce((sum, call) => sum + call.name.length + call.arguments.length, 0)
  const counted = {
    inputTokens: Math.ceil(JSON.stringify(request.body).length / 4),
    outputTokens: Math.ceil(said / 4),
    cachedTokens: 0,
  }
  return {
    id: `scripted${request.assistantTurns}`,
    model: request.model,
    text,
    reasoning: step.reasoning ?? '',
    calls,
    finish: step.finish ?? 'complete',
    usage: step.usage === undefined ? counted : step.usage,
  }
}

const toText = (frame: Frame): string => {
  const data = frame.data === '[DONE]' ? frame.data : JSON.stringify(frame.data)
  return frame.event === undefined ? `data: ${data}\n\n` : `event: ${frame.event}\ndata: ${data}\n\n`
}

function sendJson(response: ServerResponse, status: number, body: JsonObject): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}

async function readJson(incoming: IncomingMessage): Promise<JsonValue> {
  const chunks: Buffer[] = []
  for await (const chunk of incoming) chunks.push(Buffer.from(chunk))
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8')) as JsonValue // exactly the values of JSON.parse
  } catch {
    return null
  }
}
