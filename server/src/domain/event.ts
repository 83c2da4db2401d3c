import type { JsonValue } from './json.ts'
import type { Delivery, PublicError, RunState, RunStatus, StatusReason, Verification } from './lifecycle.ts'
import type { TokenUsage } from './money.ts'
import type { ToolEffect, ToolErrorCode } from './tool-call.ts'

export interface Usage extends TokenUsage {
  steps: number
  toolCalls: number
}

export interface Cost {
  credits: number
  currency: 'USD'
  estimated: boolean
}

export interface GateSummary {
  name: string
  level: string
  outcome: string
  summary: string
  durationMs: number
}

/** A command of the setup phase that went well. */
export interface SetupSummary {
  command: string
  durationMs: number
}

/** What every `run.*` event says about the run as it was when the event happened. */
export interface RunSummary {
  workOrderId: string | null
  state: RunState
  status: RunStatus
  statusReason: StatusReason
  prUrl: string | null
  verification: Verification
  output: JsonValue
  outputUrl?: string
  error: PublicError | null
  usage: Usage
  metadata: { [key: string]: JsonValue }
  correlationId: string | null
  cost?: Cost
}

/** Why a claim goes on with a run that had already started. */
export type ResumeCause = 'worker_lost' | 'handed_back'

/**
 * What each event adds of its own. `run.*` events carry a `RunSummary` besides; every event carries `runId`
 * and `tenantContext`. `apply` reads these fields and nothing else.
 */
export interface EventData {
  'run.created': { heldMicro: number }
  'run.started': { attempt: number }
  'run.resumed': { attempt: number; fromStep: number; cause: ResumeCause }
  'run.cancel_requested': { by: string }
  'run.limit_warning': { limit: 'steps' | 'tool_calls' | 'tokens' | 'credits'; used: number; max: number }
  'run.completed': FinalData
  'run.failed': FinalData
  'run.canceled': FinalData
  'step.started': { step: number; iteration: number; model: string; heldMicro: number }
  'step.completed': {
    step: number
    iteration: number
    model: string
    usage: TokenUsage
    costMicro: number
    estimated: boolean
    toolCalls: number
  }
  'message.completed': { step: number; text: string }
  'tool.requested': {
    step: number
    toolCallId: string
    name: string
    arguments: JsonValue
    argumentsTruncated: boolean
    effect: ToolEffect | null
  }
  'tool.started': { step: number; toolCallId: string; name: string }
  'tool.completed': {
    step: number
    toolCallId: string
    name: string
    durationMs: number
    preview: string
    digest: string
  }
  'tool.failed': {
    step: number
    toolCallId: string
    name: string
    durationMs: number
    code: ToolErrorCode
    message: string
    digest: string
  }
  'workspace.ready': {
    repository: string
    branch: string
    commit: string
    jail: string
    /** What was installed before; absent when there was nothing to. */
    setup?: SetupSummary[]
  }
  'iteration.started': { iteration: number }
  'iteration.completed': {
    iteration: number
    commit: string
    tree: string
    changed: boolean
    /** Hash of the blob with what another machine needs beyond the base commit; `null` when that is nothing. */
    bundle: string | null
  }
  'verification.started': { iteration: number; gates: string[] }
  'verification.passed': { iteration: number; gates: GateSummary[]; verification: Verification }
  'verification.failed': { iteration: number; gates: GateSummary[]; feedback: string }
  'delivery.pushed': { branch: string; commit: string; repository: string }
  'delivery.pull_request': { prUrl: string; number: number | null; branch: string; draft: boolean }
}

export interface FinalData {
  state: RunState
  statusReason: StatusReason
  output: JsonValue
  outputUrl?: string
  partialOutput?: JsonValue
  error: PublicError | null
  delivery: Delivery | null
  verification: Verification
  /** Micro-credits taken from the account; the rest of the hold is released. */
  chargedMicro: number
  cost: Cost
  /** How work stopped, and when it had; absent for a completed run, whose work came to its own end. */
  stopped?: Stopped
}

/**
 * `agreed`: its holder wound it up. `killed`: a command was under way in the jail, and was killed with all that it had
 * started. `fenced`: nobody was left to say so; whatever may still work changes nothing any more.
 */
export type StopWay = 'agreed' | 'killed' | 'fenced' | 'never_started'

export interface Stopped {
  how: StopWay
  at: string
}

export type EventType = keyof EventData

/** An event as `decide` makes it: not yet numbered. */
export type EventBody = { [T in EventType]: { type: T; data: EventData[T] } }[EventType]

/** An event with its place in the run. */
export type RunEvent = EventBody & { seq: number; at: number }

export const numbered = (body: EventBody, seq: number, at: number): RunEvent =>
  ({ type: body.type, data: body.data, seq, at }) as RunEvent // type and data stay the pair they were

/** The envelope every reader gets, whichever way it reads. */
export interface Envelope {
  id: string
  type: string
  createdAt: string
  mode: 'live' | 'test'
  runId: string
  seq: number
  data: { [key: string]: unknown }
}
