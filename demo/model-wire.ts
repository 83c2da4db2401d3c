import type { JsonObject, JsonValue } from '../server/src/domain/json.ts'
import { isJsonObject } from '../server/src/domain/json.ts'
import type { TokenUsage } from '../server/src/domain/money.ts'

/** The wire protocols a model is spoken to in. */
export type Wire = 'responses' | 'chat' | 'messages'

export interface AnswerCall {
  id: string
  name: string
  /** The arguments as they go over the wire; need not be valid JSON. */
  arguments: string
}

/** What a model answers, before it is put into the words of one protocol. */
export interface Answer {
  id: string
  model: string
  text: string
  /** Sent as reasoning with an opaque signature where the protocol has such a thing. */
  reasoning: string
  calls: AnswerCall[]
  /** `none` leaves the finish reason out: a stream that ends cleanly but says nothing about its end. */
  finish: 'complete' | 'length' | 'content-filter' | 'none'
  usage: TokenUsage | null
}

export interface Frame {
  event?: string
  data: JsonObject | '[DONE]'
}

/** What the scripted server needs to know of a request, whichever protocol it came in. */
export interface Conversation {
  /** How many turns of the assistant the request carries. */
  assistantTurns: number
  /** How many of them follow the last text of the user. */
  turnsSinceUser: number
  lastUserText: string
  tools: string[]
}

const objects = (value: JsonValue | undefined): JsonObject[] =>
  Array.isArray(value) ? value.filter(isJsonObject) : []

const plain = (value: JsonValue | undefined): string => (typeof value === 'string' ? value : '')

const textOf = (content: JsonValue | undefined): string =>
  typeof content === 'string'
    ? content
    : objects(content)
        .map((part) => plain(part['text']))
        .join('')

/** Reads the conversation out of a request body. Neighbouring items of the assistant are one turn. */
export function readConversation(wire: Wire, body: JsonObject): Conversation {
  const items = objects(wire === 'responses' ? body['input'] : body['messages'])
  const found: Conversation = { assistantTurns: 0, turnsSinceUser: 0, lastUserText: '', tools: [] }
  let inTurn = false
  for (const item of items) {
    const ofAssistant =
      item['role'] === 'assistant' || item['type'] === 'function_call' || item['type'] === 'reasoning'
    if (ofAssistant && !inTurn) {
      found.assistantTurns += 1
      found.turnsSinceUser += 1
    }
    inTurn = ofAssistant
    const text = item['role'] === 'user' ? textOf(item['content']) : ''
    if (text !== '') {
      found.lastUserText = text
      found.turnsSinceUser = 0
    }
  }
  found.tools = objects(body['tools']).flatMap((tool) => {
    const named = isJsonObject(tool['function']) ? tool['function'] : tool
    return typeof named['name'] === 'string' ? [named['name']] : []
  })
  return found
}

/** A long text comes in larger ones, as a stream that is read slowly does. */
const PIECES = 10_000

function pieces(text: string): string[] {
  const length = Math.max(12, Math.ceil(text.length / PIECES))
  return Array.from({ length: Math.ceil(text.length / length) }, (_, n) =>
    text.slice(n * length, (n + 1) * length),
  )
}

// OpenAI Responses ------------------------------------------------------------------------------------------

function responsesItems(answer: Answer): JsonObject[] {
  const items: JsonObject[] = []
  if (answer.reasoning !== '')
    items.push({
      id: `rs_${answer.id}`,
      type: 'reasoning',
      encrypted_content: `sealed:${answer.reasoning}`,
      summary: [{ type: 'summary_text', text: answer.reasoning }],
    })
  if (answer.text !== '')
    items.push({
      id: `msg_${answer.id}`,
      type: 'message',
      status: 'completed',
      role: 'assistant',
      content: [{ type: 'output_text', text: answer.text, annotations: [] }],
    })
  for (const call of answer.calls)
    items.push({
      id: `fc_${call.id}`,
      type: 'function_call',
      status: 'completed',
      call_id: call.id,
      name: call.name,
      arguments: call.arguments,
    })
  return items
}

function responsesBody(answer: Answer): JsonObject {
  const reason = { length: 'max_output_tokens', 'content-filter': 'content_filter' } as const
  const cutShort = answer.finish === 'length' || answer.finish === 'content-filter' ? answer.finish : null
  return {
    id: `resp_${answer.id}`,
    object: 'response',
    created_at: 1_700_000_000,
    status: cutShort ? 'incomplete' : 'completed',
    error: null,
    incomplete_details: cutShort ? { reason: reason[cutShort] } : null,
    model: answer.model,
    output: responsesItems(answer),
    store: false,
    usage: answer.usage && {
      input_tokens: answer.usage.inputTokens,
      input_tokens_details: { cached_tokens: answer.usage.cachedTokens },
      output_tokens: answer.usage.outputTokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: answer.usage.inputTokens + answer.usage.outputTokens,
    },
  }
}

function responsesItemFrames(item: JsonObject, at: number): JsonObject[] {
  const where = { output_index: at, item_id: plain(item['id']) }
  if (item['type'] === 'reasoning') {
    const text = textOf(item['summary'])
    const part = { ...where, summary_index: 0 }
    return [
      { type: 'response.output_item.added', output_index: at, item: { ...item, summary: [] } },
      { type: 'response.reasoning_summary_part.added', ...part, part: { type: 'summary_text', text: '' } },
      ...pieces(text).map((delta) => ({ type: 'response.reasoning_summary_text.delta', ...part, delta })),
      { type: 'response.reasoning_summary_text.done', ...part, text },
      { type: 'response.reasoning_summary_part.done', ...part, part: { type: 'summary_text', text } },
      { type: 'response.output_item.done', output_index: at, item },
    ]
  }
  if (item['type'] === 'message') {
    const text = textOf(item['content'])
    const part = { ...where, content_index: 0 }
    const empty = { type: 'output_text', text: '', annotations: [] }
    return [
      {
        type: 'response.output_item.added',
        output_index: at,
        item: { ...item, status: 'in_progress', content: [] },
      },
      { type: 'response.content_part.added', ...part, part: empty },
      ...pieces(text).map((delta) => ({ type: 'response.output_text.delta', ...part, delta })),
      { type: 'response.output_text.done', ...part, text },
      { type: 'response.content_part.done', ...part, part: { ...empty, text } },
      { type: 'response.output_item.done', output_index: at, item },
    ]
  }
  const sent = plain(item['arguments'])
  return [
    {
      type: 'response.output_item.added',
      output_index: at,
      item: { ...item, status: 'in_progress', arguments: '' },
    },
    ...pieces(sent).map((delta) => ({ type: 'response.function_call_arguments.delta', ...where, delta })),
    { type: 'response.function_call_arguments.done', ...where, arguments: sent },
    { type: 'response.output_item.done', output_index: at, item },
  ]
}

function responsesFrames(answer: Answer): Frame[] {
  const body = responsesBody(answer)
  const opening = { ...body, status: 'in_progress', output: [], usage: null, incomplete_details: null }
  const events: JsonObject[] = [
    { type: 'response.created', response: opening },
    { type: 'response.in_progress', response: opening },
    ...responsesItems(answer).flatMap(responsesItemFrames),
  ]
  if (answer.finish !== 'none') events.push({ type: `response.${plain(body['status'])}`, response: body })
  return events.map((event, at) => ({
    event: plain(event['type']),
    data: { ...event, sequence_number: at },
  }))
}

// OpenAI Chat Completions -----------------------------------------------------------------------------------

const chatFinish = (answer: Answer): string | null => {
  if (answer.finish === 'none') return null
  if (answer.finish === 'length') return 'length'
  if (answer.finish === 'content-filter') return 'content_filter'
  return answer.calls.length > 0 ? 'tool_calls' : 'stop'
}

const chatUsage = (usage: TokenUsage | null): JsonObject | null =>
  usage && {
    prompt_tokens: usage.inputTokens,
    completion_tokens: usage.outputTokens,
    total_tokens: usage.inputTokens + usage.outputTokens,
    prompt_tokens_details: { cached_tokens: usage.cachedTokens },
  }

function chatBody(answer: Answer): JsonObject {
  const calls = answer.calls.map((call) => ({
    id: call.id,
    type: 'function',
    function: { name: call.name, arguments: call.arguments },
  }))
  return {
    id: `chatcmpl-${answer.id}`,
    object: 'chat.completion',
    created: 1_700_000_000,
    model: answer.model,
    choices: [
      {
        index: 0,
        message: {
          role: 'assistant',
          content: answer.text === '' ? null : answer.text,
          ...(calls.length > 0 && { tool_calls: calls }),
        },
        finish_reason: chatFinish(answer),
      },
    ],
    usage: chatUsage(answer.usage),
  }
}

function chatFrames(answer: Answer, wantsUsage: boolean): Frame[] {
  const chunk = (delta: JsonObject, finishReason: string | null): Frame => ({
    data: {
      id: `chatcmpl-${answer.id}`,
      object: 'chat.completion.chunk',
      created: 1_700_000_000,
      model: answer.model,
      choices: [{ index: 0, delta, finish_reason: finishReason }],
    },
  })
  const frames: Frame[] = [chunk({ role: 'assistant', content: '' }, null)]
  for (const content of pieces(answer.text)) frames.push(chunk({ content }, null))
  for (const [index, call] of answer.calls.entries()) {
    const head = { index, id: call.id, type: 'function', function: { name: call.name, arguments: '' } }
    frames.push(chunk({ tool_calls: [head] }, null))
    for (const part of pieces(call.arguments))
      frames.push(chunk({ tool_calls: [{ index, function: { arguments: part } }] }, null))
  }
  const finish = chatFinish(answer)
  if (finish !== null) frames.push(chunk({}, finish))
  if (wantsUsage && answer.usage)
    frames.push({
      data: {
        id: `chatcmpl-${answer.id}`,
        object: 'chat.completion.chunk',
        created: 1_700_000_000,
        model: answer.model,
        choices: [],
        usage: chatUsage(answer.usage),
      },
    })
  frames.push({ data: '[DONE]' })
  return frames
}

// Anthropic Messages ----------------------------------------------------------------------------------------

const stopReason = (answer: Answer): string | null => {
  if (answer.finish === 'none') return null
  if (answer.finish === 'length') return 'max_tokens'
  if (answer.finish === 'content-filter') return 'refusal'
  return answer.calls.length > 0 ? 'tool_use' : 'end_turn'
}

const messagesUsage = (usage: TokenUsage): JsonObject => ({
  input_tokens: usage.inputTokens - usage.cachedTokens,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: usage.cachedTokens,
  output_tokens: usage.outputTokens,
})

/** Arguments as this protocol carries them outside a stream: an object, or the raw text where it is none. */
function asInput(text: string): JsonValue {
  try {
    return JSON.parse(text) as JsonValue // JSON.parse gives exactly the values of JsonValue
  } catch {
    return text
  }
}

function messagesBlocks(answer: Answer): JsonObject[] {
  const blocks: JsonObject[] = []
  if (answer.reasoning !== '')
    blocks.push({ type: 'thinking', thinking: answer.reasoning, signature: `sealed:${answer.reasoning}` })
  if (answer.text !== '') blocks.push({ type: 'text', text: answer.text })
  for (const call of answer.calls)
    blocks.push({ type: 'tool_use', id: call.id, name: call.name, input: asInput(call.arguments) })
  return blocks
}

function messagesBody(answer: Answer): JsonObject {
  return {
    id: `msg_${answer.id}`,
    type: 'message',
    role: 'assistant',
    model: answer.model,
    content: messagesBlocks(answer),
    stop_reason: stopReason(answer),
    stop_sequence: null,
    usage: messagesUsage(answer.usage ?? { inputTokens: 0, outputTokens: 0, cachedTokens: 0 }),
  }
}

function blockDeltas(block: JsonObject, sentArguments: string): JsonObject[] {
  if (block['type'] === 'thinking')
    return [
      ...pieces(plain(block['thinking'])).map((thinking) => ({ type: 'thinking_delta', thinking })),
      { type: 'signature_delta', signature: plain(block['signature']) },
    ]
  if (block['type'] === 'text')
    return pieces(plain(block['text'])).map((text) => ({ type: 'text_delta', text }))
  return pieces(sentArguments).map((part) => ({ type: 'input_json_delta', partial_json: part }))
}

const emptyBlock = (block: JsonObject): JsonObject => {
  if (block['type'] === 'thinking') return { type: 'thinking', thinking: '', signature: '' }
  if (block['type'] === 'text') return { type: 'text', text: '' }
  return { ...block, input: {} }
}

function messagesFrames(answer: Answer): Frame[] {
  const message = messagesBody(answer)
  const usage = isJsonObject(message['usage']) ? message['usage'] : {}
  const events: JsonObject[] = [
    {
      type: 'message_start',
      message: { ...message, content: [], stop_reason: null, usage: { ...usage, output_tokens: 1 } },
    },
    { type: 'ping' },
  ]
  for (const [index, block] of messagesBlocks(answer).entries()) {
    const sent = answer.calls.find((call) => call.id === block['id'])?.arguments ?? ''
    events.push({ type: 'content_block_start', index, content_block: emptyBlock(block) })
    for (const delta of blockDeltas(block, sent)) events.push({ type: 'content_block_delta', index, delta })
    events.push({ type: 'content_block_stop', index })
  }
  const reason = stopReason(answer)
  if (reason !== null) {
    const delta = { stop_reason: reason, stop_sequence: null }
    events.push({
      type: 'message_delta',
      delta,
      usage: { output_tokens: answer.usage?.outputTokens ?? 0 },
    })
    events.push({ type: 'message_stop' })
  }
  return events.map((event) => ({ event: plain(event['type']), data: event }))
}

// ----------------------------------------------------------------------------------------------------------

/** The answer as one JSON body. */
export function answerBody(wire: Wire, answer: Answer): JsonObject {
  if (wire === 'responses') return responsesBody(answer)
  return wire === 'chat' ? chatBody(answer) : messagesBody(answer)
}

/** The answer as the frames of a server-sent event stream. */
export function answerFrames(wire: Wire, answer: Answer, body: JsonObject): Frame[] {
  if (wire === 'responses') return responsesFrames(answer)
  if (wire === 'messages') return messagesFrames(answer)
  const options = body['stream_options']
  return chatFrames(answer, isJsonObject(options) && options['include_usage'] === true)
}

/** An error as the protocol's provider words it. */
export function errorBody(wire: Wire, status: number, message: string, known?: string): JsonObject {
  const type = known ?? ERROR_TYPES[status] ?? (status >= 500 ? 'server_error' : 'invalid_request_error')
  if (wire === 'messages') return { type: 'error', error: { type, message } }
  return { error: { message, type, param: null, code: status === 404 ? 'model_not_found' : null } }
}

const ERROR_TYPES: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  402: 'billing_error',
  403: 'permission_error',
  404: 'not_found_error',
  429: 'rate_limit_error',
  529: 'overloaded_error',
}
