import type {
  Delivery,
  JsonValue,
  Metadata,
  Mode,
  PendingAction,
  RunCost,
  RunError,
  RunState,
  RunStatus,
  RunUsage,
  StatusReason,
  TenantContext,
  Verification,
} from './types.ts'

/** What every run event's data holds. */
export interface RunEventData {
  runId: string
  /** `{}` when none was given. */
  tenantContext: TenantContext
}

/** What `run.*` events say of the run, as it was at the event. */
export interface RunSummary extends RunEventData {
  workOrderId: string | null
  state: RunState
  status: RunStatus
  statusReason: StatusReason
  prUrl: string | null
  verification: Verification
  /** Null, with an `outputUrl`, when it is over 16 KB. */
  output: JsonValue
  outputUrl?: string | null
  error: RunError | null
  usage: RunUsage
  metadata: Metadata
  correlationId: string | null
  /** Only in the three final events. */
  cost?: RunCost
}

/** The last event of a run, with the settled cost. */
export interface FinalRunSummary extends RunSummary {
  cost: RunCost
  delivery?: Delivery | null
  /** How the work of a canceled or failed run stopped, and when it had. */
  stopped?: { how: 'agreed' | 'killed' | 'fenced' | 'never_started'; at: string }
}

/** One gate's verdict in one iteration. */
export interface GateSummary {
  name: string
  level: string
  outcome: 'passed' | 'failed' | 'timed_out' | 'error' | 'skipped'
  summary: string
  durationMs: number
}

type ToolCallData = RunEventData & { step: number; toolCallId: string; name: string }

/** Event types of a run, and what each one's data holds. */
export interface RunEvents {
  'run.created': RunSummary
  'run.started': RunSummary
  'run.tool_required': RunSummary & { toolCalls: PendingAction[] }
  'run.waiting_approval': RunSummary & { approvals: PendingAction[] }
  /** A worker goes on with the run, from the step after `fromStep`. */
  'run.resumed': RunSummary & { fromStep: number }
  'run.cancel_requested': RunSummary
  'run.limit_warning': RunSummary & { limit: string; used: number; max: number }
  'run.completed': FinalRunSummary
  'run.failed': FinalRunSummary
  'run.canceled': FinalRunSummary
  'step.started': RunEventData & { step: number; iteration: number; model: string }
  'step.completed': RunEventData & {
    step: number
    iteration: number
    model: string
    usage: { inputTokens: number; outputTokens: number; cachedTokens: number }
    toolCalls: number
  }
  'message.completed': RunEventData & { step: number; text: string }
  'tool.requested': ToolCallData & {
    arguments: JsonValue
    argumentsTruncated: boolean
    effect: string | null
  }
  'tool.started': ToolCallData
  'tool.completed': ToolCallData & { durationMs: number; preview: string }
  'tool.failed': ToolCallData & { durationMs: number; code: string; message: string }
  'workspace.ready': RunEventData & { repository: string; branch: string; commit: string; jail: string }
  'iteration.started': RunEventData & { iteration: number }
  'iteration.completed': RunEventData & { iteration: number; commit: string; tree: string; changed: boolean }
  'verification.started': RunEventData & { iteration: number; gates: string[] }
  'verification.passed': RunEventData & {
    iteration: number
    gates: GateSummary[]
    verification: Verification
  }
  'verification.failed': RunEventData & { iteration: number; gates: GateSummary[]; feedback: string }
  'delivery.pushed': RunEventData & { branch: string; commit: string; repository: string }
  'delivery.pull_request': RunEventData & {
    prUrl: string
    number: number | null
    branch: string
    draft: boolean
  }
}

export type RunEventType = keyof RunEvents

interface Envelope<Type, Data> {
  id: string
  type: Type
  createdAt: string
  mode: Mode
  data: Data
}

/** One entry of a run's event log; `seq` counts from 1 without gaps. */
type RunEnvelope<Type, Data> = Envelope<Type, Data> & { runId: string; seq: number }

declare const unknownType: unique symbol

/** Any type this version does not know: a string at run time, kept apart from the known types for the compiler. */
export type UnknownEventType = `${string}.${string}` & { readonly [unknownType]: true }

/** An event of a newer gate. Programs must pass over it. */
export type UnknownRunEvent = RunEnvelope<UnknownEventType, RunEventData & { [key: string]: unknown }>

/** An event of a run. Comparing `type` narrows `data`. */
export type RunEvent = { [T in RunEventType]: RunEnvelope<T, RunEvents[T]> }[RunEventType] | UnknownRunEvent

/** An event of the organisation that belongs to no run. */
export type OrganizationEvent = Envelope<
  'webhook.disabled' | 'webhook.recovered' | 'webhook.test' | 'budget.alert',
  { [key: string]: unknown }
> & { runId?: never; seq?: never }

/** What a webhook's body holds. */
export type WebhookEvent = RunEvent | OrganizationEvent

const FINAL: ReadonlySet<string> = new Set<RunEventType>(['run.completed', 'run.failed', 'run.canceled'])

/** Whether nothing follows this event in its run. */
export const isFinalEvent = (event: { type: string }): boolean => FINAL.has(event.type)
