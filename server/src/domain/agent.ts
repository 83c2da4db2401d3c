import type { Clean } from '../lib/redact.ts'
import type { JsonValue } from './json.ts'
import type { TokenUsage } from './money.ts'
import type { RequestedCall, ToolCallId, ToolDefinition, ToolOutcome } from './tool-call.ts'

/** What the gateway wrote down about a run, in order. A driver rebuilds its conversation from this alone. */
export type JournalEntry =
  | {
      kind: 'step'
      step: number
      iteration: number
      /** The driver's own record of the step (provider messages with their metadata); opaque to others. */
      record: JsonValue
      text: string
      calls: RequestedCall[]
      usage: TokenUsage
    }
  | { kind: 'tool'; step: number; callId: ToolCallId; outcome: ToolOutcome }
  | { kind: 'feedback'; step: number; iteration: number; text: string }

/** Takes the secrets out of what an agent says. */
export interface Keeping {
  clean: Clean
  /** The call with clean arguments, and with what is needed to carry it out as it was asked. */
  keepCall: (call: RequestedCall) => RequestedCall
}

export interface DriverContext {
  runId: string
  mode: 'live' | 'test'
  iteration: number
  /** Number of the next step: steps are counted over the whole run and never reused. */
  nextStep: number
  instructions: string
  /** The caller's input: a prompt, or the object given to `POST /v1/runs`. */
  input: JsonValue
  tools: readonly ToolDefinition[]
  /** Models in the order to try them, `provider/id`. */
  models: readonly string[]
  /** Empty at the first start; at a resume everything that still counts. */
  journal: readonly JournalEntry[]
  /**
   * What is kept of the agent's own words. A driver passes each step through it before it tells of it, and goes on
   * from what it told, so that the agent reads the same after a crash as before.
   */
  keeping: Keeping
  signal: AbortSignal
}

/**
 * What a driver tells. The reader acknowledges an event by asking for the next one, which it does only after
 * the event is durable: a driver does nothing that follows from an event before it is asked on.
 */
export type DriverEvent =
  /** Comes before each model call; `worstCase` bounds what the call may cost. */
  | { type: 'step.started'; step: number; model: string; worstCase: TokenUsage }
  /** Draft text; never stored. */
  | { type: 'text'; delta: string }
  | {
      type: 'step.completed'
      step: number
      model: string
      record: JsonValue
      text: string
      calls: RequestedCall[]
      usage: TokenUsage
      /** False when the provider reported no usage and the figures are our estimate. */
      usageReported: boolean
      providerRequestId: string | null
    }
  /** The reader runs the call and hands its outcome to `submitToolResult` before asking on. */
  | { type: 'tool.requested'; step: number; call: RequestedCall }
  | { type: 'finished'; output: JsonValue }
  | { type: 'failed'; reason: DriverFailure; message: string; retryable: boolean; spent?: TokenUsage }
  /** Work was told to stop while a model answered: what of the step is to be paid. Nothing follows it. */
  | { type: 'stopped'; spent: TokenUsage }

export type DriverFailure = 'model_error' | 'provider_auth_failed' | 'agent_error' | 'driver_unavailable'

export interface DriverRun {
  events: AsyncIterable<DriverEvent>
  submitToolResult(callId: ToolCallId, outcome: ToolOutcome): void
  /** Ends the work; resolves when nothing of it runs any more. */
  cancel(reason: string): Promise<void>
}

/**
 * One way of running an agent. `start` begins with an empty journal, `resume` goes on from a journal; both
 * ask no recorded step again. Calls of the last recorded step without an outcome are requested again.
 */
export interface AgentDriver {
  readonly id: 'loop' | 'scripted'
  /** Whether a step asks somebody who charges for it, so that its begin has to be durable first. */
  readonly asksModel: boolean
  start(context: DriverContext): DriverRun
  resume(context: DriverContext): DriverRun
}

/** One step of a script: what the agent says and the calls it makes. No calls ends the iteration. */
export interface ScriptStep {
  text?: string
  calls?: { tool: string; arguments: { [key: string]: JsonValue } }[]
  /** Milliseconds the step takes. */
  delayMs?: number
  /** Ends the run as this failure instead of answering. */
  fail?: { reason: DriverFailure; message: string }
}

export interface Script {
  steps: ScriptStep[]
}
