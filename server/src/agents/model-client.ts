import type { ModelMessage, Schema, ToolSet } from 'ai'
import type { JsonObject } from '../domain/json.ts'
import type { TokenUsage } from '../domain/money.ts'
import { storable } from '../lib/text.ts'
import { type CallLimits, type CallWatch, watchCall } from './call-watch.ts'
import { answered, hear, newHeard, spentOf } from './model-answer.ts'
import { failureOf } from './model-failure.ts'
import { modelFetch } from './model-frames.ts'
import { loadModel, type ProviderConfig } from './model-providers.ts'
import {
  FINISHES,
  type ModelAnswer,
  type ModelClient,
  type ModelFailure,
  type ModelRequest,
} from './model-step.ts'

export interface ModelClientOptions extends CallLimits {
  /** By the name before the slash of a model. */
  providers: Readonly<Record<string, ProviderConfig>>
  maxOutputTokens: number
}

/**
 * Models over the AI SDK, used for one step at a time: tools have no execute and nothing is tried twice here, so
 * the journal knows every attempt. Conversations travel whole (`store: false`, for which the SDK asks reasoning
 * models of OpenAI to seal their reasoning), so that a resumed run depends on no provider's storage.
 */
export function modelClient(options: ModelClientOptions): ModelClient {
  return {
    maxOutputTokens: options.maxOutputTokens,
    async step(request, signal) {
      const slash = request.model.indexOf('/')
      const name = request.model.slice(0, slash)
      const config = Object.hasOwn(options.providers, name) ? options.providers[name] : undefined
      if (slash < 1 || config === undefined) return notConfigured(request.model)
      const watch = watchCall(options, signal)
      try {
        return await askOnce(request, { name, config, options, watch })
      } finally {
        watch.end()
      }
    },
  }
}

interface Call {
  name: string
  config: ProviderConfig
  options: ModelClientOptions
  watch: CallWatch
}

/** Text, reasoning and arguments together: as much as a request to this gateway may hold, and more than models give. */
export const MAX_ANSWER_CHARACTERS = 2 ** 20

const notConfigured = (model: string): ModelFailure => ({
  outcome: 'failed',
  reason: 'driver_unavailable',
  message: `No provider is configured for the model ${model}.`,
  retryable: false,
  retryAfterMs: null,
  spent: null,
})

async function askOnce(request: ModelRequest, call: Call): Promise<ModelAnswer> {
  const { config, options, watch } = call
  const key = config.apiKey.reveal()
  const hide = (text: string): string => storable(key === '' ? text : text.replaceAll(key, '[secret]'))
  const heard = newHeard()
  try {
    const { streamText, jsonSchema } = await import('ai')
    globalThis.AI_SDK_LOG_WARNINGS = false
    const fetch = modelFetch(() => watch.alive())
    const model = await loadModel(call.name, request.model.slice(call.name.length + 1), { ...config, fetch })
    const stream = streamText({
      model,
      system: request.instructions,
      messages: toMessages(request.messages),
      tools: toTools(request.tools, config.kind, jsonSchema),
      maxOutputTokens: options.maxOutputTokens,
      maxRetries: 0,
      abortSignal: watch.signal,
      providerOptions: { openai: { store: false } },
      // Errors come as parts of the stream; without this they are printed too.
      onError: () => undefined,
    })
    for await (const part of stream.fullStream) {
      hear(heard, part, request.onText)
      if (heard.chars > MAX_ANSWER_CHARACTERS) watch.refuse()
    }
    if (watch.ended()) return stopped(watch, spentOf(request, heard))
    if (heard.error !== null)
      return { ...failureOf(heard.error, options.clock.now(), hide), spent: spentOf(request, heard) }
    const finish = FINISHES.find((known) => known === heard.finish)
    if (finish === undefined)
      return { ...cut('gave no reason for the end of its answer'), spent: spentOf(request, heard) }
    const response = await stream.response
    return answered({ heard, finish, request, messages: response.messages, headers: response.headers })
  } catch (error) {
    if (watch.ended()) return stopped(watch, spentOf(request, heard))
    return { ...failureOf(error, options.clock.now(), hide), spent: spentOf(request, heard) }
  }
}

function toTools(
  tools: ModelRequest['tools'],
  kind: ProviderConfig['kind'],
  jsonSchema: (schema: JsonObject) => Schema,
): ToolSet {
  // Responses takes tools for strict unless told otherwise, and a strict tool has no optional argument.
  const loose = kind === 'openai' ? { strict: false } : {}
  return Object.fromEntries(
    tools.map(({ name, description, inputSchema }) => [
      name,
      { description, inputSchema: jsonSchema(inputSchema), ...loose },
    ]),
  )
}

/** Messages from journal records are the SDK's own, passed through JSON; it checks them again before use. */
const toMessages = (messages: readonly JsonObject[]): ModelMessage[] => messages as unknown as ModelMessage[]

function stopped(watch: CallWatch, spent: TokenUsage | null): ModelAnswer {
  const why = watch.ended()
  if (why === 'canceled') return { outcome: 'canceled', spent }
  if (why === 'too large') {
    const most = MAX_ANSWER_CHARACTERS.toLocaleString('en')
    return { ...cut(`answered with more than ${most} characters`), retryable: false, spent }
  }
  return { ...cut(why === 'silent' ? 'went silent' : 'took too long over its answer'), spent }
}

const cut = (what: string): ModelFailure => ({
  outcome: 'failed',
  reason: 'model_error',
  message: `The model provider ${what}.`,
  retryable: true,
  retryAfterMs: null,
  spent: null,
})
