import type { JsonValue } from './json.ts'

/** Contained by the jail and undone by a checkpoint (`workspace`), or reaching the world (`write`, `destructive`). */
export type ToolEffect = 'read' | 'workspace' | 'write' | 'destructive'

export interface ToolDefinition {
  /** `[a-z0-9_]{1,64}` */
  name: string
  description: string
  /** JSON Schema 2020-12 of the arguments, `additionalProperties: false`. */
  inputSchema: { [key: string]: JsonValue }
  effect: ToolEffect
  idempotent: boolean
  timeoutSeconds: number
}

export type ToolCallId = `call_${string}`

/** A call as the agent asked for it, before any check. */
export interface RequestedCall {
  id: ToolCallId
  /** The model provider's own id of the call, needed to answer it. */
  providerId: string
  name: string
  /** Parsed arguments; `null` when `malformed` says why they could not be parsed. */
  arguments: JsonValue
  malformed?: string
  /** In the journal, where what looked like a secret was masked in the arguments: how they were, sealed. */
  sealed?: string
  /** The arguments held a secret of the gateway, which nothing is carried out with. */
  withheld?: true
}

export type ToolErrorCode =
  | 'unknown_tool'
  | 'invalid_arguments'
  | 'not_allowed'
  | 'identical_call'
  | 'failed'
  | 'timed_out'
  | 'disk_limit'
  | 'canceled'

/** What goes back to the agent. `content` is text, capped and storable. */
export type ToolOutcome = { ok: true; content: string } | { ok: false; code: ToolErrorCode; content: string }

/** Runs calls of one tool whose arguments already passed its schema. Never throws for what the call did. */
export interface ToolExecutor {
  definition: ToolDefinition
  execute(args: Record<string, JsonValue>, signal: AbortSignal): Promise<ToolOutcome>
}
