import type { DriverFailure } from '../domain/agent.ts'
import type { JsonObject, JsonValue } from '../domain/json.ts'
import type { TokenUsage } from '../domain/money.ts'
import type { ToolDefinition } from '../domain/tool-call.ts'

/** What a model is asked: one step, one call over the wire. */
export interface ModelRequest {
  /** `provider/id`; the id may itself contain slashes. */
  model: string
  instructions: string
  /** Messages of the AI SDK as plain JSON: built from journal records, never by hand of a provider. */
  messages: readonly JsonObject[]
  tools: readonly Pick<ToolDefinition, 'name' | 'description' | 'inputSchema'>[]
  /** Sees draft text as it arrives. */
  onText?: (delta: string) => void
}

export interface ModelCall {
  providerId: string
  name: string
  /** `null` when `malformed` says why the arguments could not be read. */
  arguments: JsonValue
  malformed?: string
}

/** The ends of an answer that count; any other is a cut answer. */
export const FINISHES = ['stop', 'tool-calls', 'length', 'content-filter'] as const
export type Finish = (typeof FINISHES)[number]

export interface ModelFailure {
  outcome: 'failed'
  reason: DriverFailure
  /** A sentence without secrets. */
  message: string
  /** Whether the same request may go well later. */
  retryable: boolean
  /** What the provider asked to wait. */
  retryAfterMs: number | null
  /** What the failed call cost, where the answer had begun. */
  spent: TokenUsage | null
}

export type ModelAnswer =
  | {
      outcome: 'answered'
      /** The assistant messages with all metadata (signatures, sealed reasoning), for the journal. */
      messages: JsonObject[]
      text: string
      calls: ModelCall[]
      finish: Finish
      usage: TokenUsage
      /** False when the provider reported no usage and the figures are an estimate. */
      usageReported: boolean
      providerRequestId: string | null
    }
  | ModelFailure
  /** `spent`: what the call cost, where the answer had begun. */
  | { outcome: 'canceled'; spent: TokenUsage | null }

/** Asks a model for exactly one step and never throws for what the provider did. */
export interface ModelClient {
  /** What an answer can cost in output at most. */
  readonly maxOutputTokens: number
  step(request: ModelRequest, signal: AbortSignal): Promise<ModelAnswer>
}

/** A fair guess for planning. */
export const estimateTokens = (chars: number): number => Math.ceil(chars / 3.5)

/** More tokens than a request of this many UTF-8 bytes can reasonably have. */
export const boundTokens = (bytes: number): number => Math.ceil(bytes / 2.5) + 500

/** All that a provider is sent of a request, for measuring it. */
export const requestText = (request: Pick<ModelRequest, 'instructions' | 'messages' | 'tools'>): string =>
  JSON.stringify([request.instructions, request.messages, request.tools])
