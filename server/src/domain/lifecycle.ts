/** The words for where a run stands, and the one published mapping between them. */

export const RUN_STATES = [
  'queued',
  'running',
  'tool_required',
  'waiting_approval',
  'completed',
  'failed',
  'canceled',
] as const
export type RunState = (typeof RUN_STATES)[number]

export const RUN_STATUSES = ['pending', 'running', 'succeeded', 'failed', 'canceled'] as const
export type RunStatus = (typeof RUN_STATUSES)[number]

export const STATUS_OF: Record<RunState, RunStatus> = {
  queued: 'pending',
  running: 'running',
  tool_required: 'running',
  waiting_approval: 'running',
  completed: 'succeeded',
  failed: 'failed',
  canceled: 'canceled',
}

/** The ways out of each state. A state with no way out is final. */
export const EXITS: Record<RunState, readonly RunState[]> = {
  queued: ['running', 'canceled', 'failed'],
  running: ['queued', 'tool_required', 'waiting_approval', 'completed', 'failed', 'canceled'],
  tool_required: ['queued', 'failed', 'canceled'],
  waiting_approval: ['queued', 'failed', 'canceled'],
  completed: [],
  failed: [],
  canceled: [],
}

export const isFinal = (state: RunState): boolean => EXITS[state].length === 0

export const OPEN_REASONS = [
  'waiting_for_capacity',
  'working',
  'tool_required',
  'approval_required',
  'effect_unknown',
] as const
export const COMPLETED_REASONS = ['completed', 'no_changes'] as const
export const CANCELED_REASONS = ['canceled_by_user', 'canceled_by_system'] as const
export const FAILED_REASONS = [
  'limit_steps',
  'limit_tool_calls',
  'limit_tokens',
  'limit_credits',
  'limit_time',
  'limit_wait',
  'limit_iterations',
  'loop_detected',
  'verification_failed',
  'policy_denied',
  'approval_rejected',
  'approval_expired',
  'tool_expired',
  'output_invalid',
  'model_error',
  'provider_auth_failed',
  'agent_error',
  'outcome_unknown',
  'queue_expired',
  'insufficient_credits',
  'source_unavailable',
  'source_auth_failed',
  'source_invalid',
  'workspace_failed',
  'disk_limit',
  'gate_error',
  'driver_unavailable',
  'base_moved',
  'push_rejected',
  'delivery_failed',
  'system_error',
] as const
export type FailedReason = (typeof FAILED_REASONS)[number]

export const STATUS_REASONS = [
  ...OPEN_REASONS,
  ...COMPLETED_REASONS,
  ...CANCELED_REASONS,
  ...FAILED_REASONS,
] as const
export type StatusReason =
  | (typeof OPEN_REASONS)[number]
  | (typeof COMPLETED_REASONS)[number]
  | (typeof CANCELED_REASONS)[number]
  | FailedReason

export type Stage = 'workspace' | 'agent' | 'verification' | 'delivery'

export interface PublicError {
  /** The status reason in upper case. */
  code: string
  message: string
  retryable: boolean
  hint?: string
  details?: { [key: string]: unknown }
}

export type Verification = 'passed' | 'failed' | 'none'

export interface Delivery {
  mode: 'none' | 'branch' | 'pull_request'
  branch?: string
  commit?: string
  prUrl?: string
  reason?: string
  /** Added lines that look as if they held a secret. */
  likelySecrets?: number
}
