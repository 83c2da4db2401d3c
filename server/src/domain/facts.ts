import type { JsonValue } from './json.ts'
import type { PriceBook } from './money.ts'

export type Mode = 'live' | 'test'
export type RunId = `run_${string}`
export type WorkOrderId = `wo_${string}`

export interface GitSource {
  type: 'git'
  repository: string
  branch?: string
  commit?: string
}

export interface DeliveryRequest {
  mode: 'none' | 'branch' | 'pull_request'
  base?: string
  branch?: string
  title?: string
  draft?: boolean
  labels?: string[]
  reviewers?: string[]
}

/** What a work order adds to a run. */
export interface OrderFacts {
  id: WorkOrderId
  taskPrompt: string
  workspaceSource: GitSource
  /** As the caller gave it; `null` lets the repository's own tooling decide. */
  gatePlan: JsonValue
  /** `null` is the default: a pull request where there is a forge, else a branch. */
  delivery: DeliveryRequest | null
  maxIterations: number
}

/** Caps of a run, all of its iterations together. `null` is no cap. */
export interface Constraints {
  maxSteps: number
  maxToolCalls: number
  maxTokens: number | null
  maxCredits: number | null
  maxDurationSeconds: number
  maxWaitSeconds: number
  maxIdenticalCalls: number
  maxQueueSeconds: number | null
  requireApprovalFor: string[]
  allowTools: string[] | null
  denyTools: string[]
}

export const DEFAULT_CONSTRAINTS: Constraints = {
  maxSteps: 50,
  maxToolCalls: 100,
  maxTokens: null,
  maxCredits: null,
  maxDurationSeconds: 1800,
  maxWaitSeconds: 604_800,
  maxIdenticalCalls: 3,
  maxQueueSeconds: null,
  requireApprovalFor: [],
  allowTools: null,
  denyTools: [],
}

export interface TenantContext {
  tenantId?: string
  tenantUserId?: string
  metadata?: { [key: string]: JsonValue }
}

export interface AgentRef {
  id: string
  slug: string
  version: string
  kind: 'loop' | 'scripted'
}

/** All that is known of a run when it is created and never changes after. */
export interface RunFacts {
  id: RunId
  organizationId: string
  mode: Mode
  /** The lane's tenant; empty when the run has none. */
  tenantId: string
  agent: AgentRef
  models: string[]
  input: JsonValue
  order: OrderFacts | null
  constraints: Constraints
  /** Reserved at create, in micro-credits; 0 in test mode. */
  reserveMicro: number
  /** The prices the run is charged by, pinned when it was created; `null` in test mode, which costs nothing. */
  prices: PriceBook | null
  webhookUrl: string | null
  /** What a test run's agent does; `null` outside test mode and for the built-in script. */
  script: JsonValue
  metadata: { [key: string]: JsonValue }
  tenantContext: TenantContext
  correlationId: string | null
  projectId: string | null
  purpose: string | null
  requestId: string
  traceparent: string | null
  createdBy: { type: 'key'; id: string }
  retryOf: RunId | null
  createdAt: number
}
