import type { LanguageModelUsage, TextStreamPart, ToolSet } from 'ai'
import { isJsonObject, type JsonObject, type JsonValue } from '../domain/json.ts'
import type { TokenUsage } from '../domain/money.ts'
import { storable, storableJson } from '../lib/text.ts'
import {
  estimateTokens,
  type Finish,
  type ModelAnswer,
  type ModelCall,
  type ModelRequest,
  requestText,
} from './model-step.ts'

/** What came of an answer so far. */
export interface Heard {
  text: string
  /** Characters of any kind of output. */
  chars: number
  calls: ModelCall[]
  finish: string | null
  usage: LanguageModelUsage | null
  error: unknown
}

export const newHeard = (): Heard => ({
  text: '',
  chars: 0,
  calls: [],
  finish: null,
  usage: null,
  error: null,
})

export function hear(heard: Heard, part: TextStreamPart<ToolSet>, onText: ModelRequest['onText']): void {
  if (part.type === 'text-delta') {
    heard.text += part.text
    heard.chars += part.text.length
    onText?.(storable(part.text))
  } else if (part.type === 'reasoning-delta') heard.chars += part.text.length
  else if (part.type === 'tool-input-delta') heard.chars += part.delta.length
  else if (part.type === 'tool-call') heard.calls.push(toCall(part))
  else if (part.type === 'error') heard.error ??= part.error
  else if (part.type === 'finish-step') {
    heard.finish = part.finishReason
    heard.usage = part.usage
  }
}

function toCall(part: { toolCallId: string; toolName: string; input: unknown }): ModelCall {
  const named = { providerId: part.toolCallId, name: storable(part.toolName) }
  // Where the arguments are no JSON, the SDK leaves the raw text in their place.
  if (typeof part.input === 'string')
    return {
      ...named,
      arguments: null,
      malformed: `not a JSON object: ${storable(part.input).slice(0, 300)}`,
    }
  const input = plainJson(part.input)
  return isJsonObject(input)
    ? { ...named, arguments: input }
    : { ...named, arguments: null, malformed: `not a JSON object: ${JSON.stringify(input).slice(0, 300)}` }
}

/** The value as JSON that can be stored. */
const plainJson = (value: unknown): JsonValue => JSON.parse(storableJson(value ?? null)) as JsonValue // by definition

/** The whole answer, once it ended in a way that counts. `messages` are the SDK's own. */
export function answered({
  heard,
  finish,
  request,
  messages,
  headers,
}: {
  heard: Heard
  finish: Finish
  request: ModelRequest
  messages: readonly unknown[]
  headers: Record<string, string> | undefined
}): ModelAnswer {
  const reported = reportedUsage(heard.usage)
  return {
    outcome: 'answered',
    messages: messages.map(plainJson).filter(isJsonObject).flatMap(assistantOnly),
    text: storable(heard.text),
    calls: heard.calls,
    finish,
    usage: reported ?? estimatedUsage(request, heard),
    usageReported: reported !== null,
    providerRequestId: headers?.['x-request-id'] ?? headers?.['request-id'] ?? null,
  }
}

/**
 * To calls that it cannot read the SDK adds answers of its own; they are dropped, since the journal gives every
 * call its one answer. Arguments that are no object are no arguments to a provider either.
 */
function assistantOnly(message: JsonObject): JsonObject[] {
  if (message['role'] !== 'assistant' || !Array.isArray(message['content'])) return []
  const content = message['content'].filter(isJsonObject)
  return [
    {
      ...message,
      content: content.map((part) =>
        part['type'] === 'tool-call' && !isJsonObject(part['input']) ? { ...part, input: {} } : part,
      ),
    },
  ]
}

/** Null when the provider said nothing. */
function reportedUsage(usage: LanguageModelUsage | null): TokenUsage | null {
  const inputTokens = usage?.inputTokens ?? 0
  const outputTokens = usage?.outputTokens ?? 0
  if (inputTokens + outputTokens === 0) return null
  return { inputTokens, outputTokens, cachedTokens: usage?.inputTokenDetails.cacheReadTokens ?? 0 }
}

const estimatedUsage = (request: ModelRequest, heard: Heard): TokenUsage => ({
  inputTokens: estimateTokens(requestText(request).length),
  outputTokens: estimateTokens(heard.chars),
  cachedTokens: 0,
})

/** A failed call is paid for once the answer has begun. */
export const spentOf = (request: ModelRequest, heard: Heard): TokenUsage | null =>
  reportedUsage(heard.usage) ?? (heard.chars > 0 ? estimatedUsage(request, heard) : null)
