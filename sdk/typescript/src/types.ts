/** Any value that JSON can hold. */
export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue }

/** The caller's own data: at most 50 keys and 16 KB, returned unchanged. */
export type Metadata = { [key: string]: JsonValue }

/** Which world something belongs to. A test key sees only `test`, costs nothing and calls no forge. */
export type Mode = 'live' | 'test'

/** Where a run stands in its life. `completed`, `failed` and `canceled` are final. */
export type RunState =
  | 'queued'
  | 'running'
  | 'tool_required'
  | 'waiting_approval'
  | 'completed'
  | 'failed'
  | 'canceled'

/** The same in coarse words: `queued` is `pending`, `completed` is `succeeded`, all that is under way `running`. */
export type RunStatus = 'pending' | 'running' | 'succeeded' | 'failed' | 'canceled'

/** Why a run stands where it stands. A newer gate may send a reason that is not listed here. */
export type StatusReason =
  | 'waiting_for_capacity'
  | 'working'
  | 'tool_required'
  | 'approval_required'
  | 'effect_unknown'
  | 'completed'
  | 'no_changes'
  | 'canceled_by_user'
  | 'canceled_by_system'
  | 'limit_steps'
  | 'limit_tool_calls'
  | 'limit_tokens'
  | 'limit_credits'
  | 'limit_time'
  | 'limit_wait'
  | 'limit_iterations'
  | 'loop_detected'
  | 'verification_failed'
  | 'policy_denied'
  | 'approval_rejected'
  | 'approval_expired'
  | 'tool_expired'
  | 'output_invalid'
  | 'model_error'
  | 'provider_auth_failed'
  | 'agent_error'
  | 'outcome_unknown'
  | 'queue_expired'
  | 'insufficient_credits'
  | 'source_unavailable'
  | 'source_auth_failed'
  | 'source_invalid'
  | 'workspace_failed'
  | 'disk_limit'
  | 'gate_error'
  | 'driver_unavailable'
  | 'base_moved'
  | 'push_rejected'
  | 'delivery_failed'
  | 'system_error'
  | (string & {})

/** Outcome of the gates: `none` when there was nothing to verify with, which is never a pass. */
export type Verification = 'passed' | 'failed' | 'none'

/** The files a work order starts from: a git repository. */
export interface WorkspaceSource {
  type: 'git'
  /** Its http or https URL, without credentials: those go to `gitCredentials`. */
  repository: string
  /** Default: the repository's own default branch. */
  branch?: string
  /** The full hash to start from. */
  commit?: string
}

/** Caps of a run, all iterations together. They only tighten what organisation and agent allow. */
export interface Constraints {
  maxSteps?: number
  maxToolCalls?: number
  maxTokens?: number | null
  /** Reserved when the run is created; also the most it can cost. */
  maxCredits?: number | null
  /** Counts only the time in state `running`. */
  maxDurationSeconds?: number
  maxWaitSeconds?: number
  /** How often the same call with the same arguments may follow itself. */
  maxIdenticalCalls?: number
  maxQueueSeconds?: number | null
  requireApprovalFor?: string[]
  allowTools?: string[] | null
  denyTools?: string[]
}

/** Whom the caller acts for: the caller's own strings, 1–255 characters. */
export interface TenantContext {
  tenantId?: string
  tenantUserId?: string
  metadata?: Metadata
}

/** What is checked. `command` passes on exit code 0, `files` when each glob matches, `forbid` when nothing does. */
export type GateCheck =
  | { type: 'command'; run: string }
  | { type: 'files'; required: string[] }
  | { type: 'forbid'; patterns?: string[]; paths?: string[] }

/** One check of the result, run outside the agent's reach. Levels run in order. */
export interface Gate {
  name: string
  level: 'L0' | 'L1'
  check: GateCheck
  timeoutSeconds?: number
  /** What a failure leads to: the next iteration, the end of the run, or a person. */
  onFailure?: 'iterate' | 'stop' | 'escalate'
  /** How often the gate may fail before the run ends as `verification_failed`. */
  maxAttempts?: number
}

/** How the result is verified. Under `strict`, nothing runnable is a failure. */
export type GatePlan =
  | 'default'
  | 'strict'
  | 'none'
  | {
      /** Shell commands that may install dependencies, before the agent and again for the gates. */
      setup?: string[]
      levels?: ('L0' | 'L1')[]
      gates: Gate[]
    }

/** Where the verified commit goes. */
export interface DeliveryRequest {
  mode: 'none' | 'branch' | 'pull_request'
  base?: string
  branch?: string
  title?: string
  draft?: boolean
  labels?: string[]
  reviewers?: string[]
}

/** What the agent of a test run does, instead of asking a model. */
export interface TestRequest {
  script: JsonValue
}

/** A piece of work for a coding agent on a repository. */
export interface CreateWorkOrderRequest<M extends Metadata = Metadata> {
  /** What to do, 1–100,000 characters. */
  taskPrompt: string
  workspaceSource: WorkspaceSource
  /** Agent id or slug. Default: the built-in `coder`. */
  agent?: string
  /** Rounds of work and verification, 1–100. Default 10. */
  maxIterations?: number
  /** Default: what the repository's own tooling offers. */
  gatePlan?: GatePlan
  /** Default for git: a pull request where the host has a forge API, else a branch. */
  delivery?: DeliveryRequest
  constraints?: Constraints
  /** Receives this order's run events, signed with the organisation's webhook secret. */
  webhookUrl?: string
  tenantContext?: TenantContext
  metadata?: M
  correlationId?: string
  projectId?: string
  purpose?: string
  /** Test keys only. */
  test?: TestRequest
}

/** The answer to a new work order. */
export interface CreatedWorkOrder<M extends Metadata = Metadata> {
  workOrderId: string
  runId: string
  /** `pending`, unless the request carried `Prefer: wait`. */
  status: RunStatus
  createdAt: string
  /** What was sent; `{}` when nothing was. */
  metadata: M
  /** Only with `Prefer: wait`. */
  run?: Run
}

/** A work order and where its newest run stands. */
export interface WorkOrder {
  id: string
  mode: Mode
  /** The newest run. */
  runId: string
  /** All runs, oldest first: the first and its retries. */
  runIds: string[]
  status: RunStatus
  taskPrompt: string
  workspaceSource: WorkspaceSource
  /** The slug of the agent. */
  agent: string
  maxIterations: number
  /** As given; null when the repository's own tooling decides. */
  gatePlan: JsonValue
  delivery: DeliveryRequest | null
  constraints: Required<Constraints>
  webhookUrl: string | null
  tenantContext: TenantContext
  metadata: Metadata
  correlationId: string | null
  projectId: string | null
  purpose: string | null
  prUrl: string | null
  error: RunError | null
  createdAt: string
}

/** Why a run failed or was canceled. */
export interface RunError {
  /** The status reason in upper case. */
  code: string
  message: string
  retryable: boolean
  /** One sentence that says what to do. */
  hint?: string
  /** `stage` says where: `workspace`, `agent`, `verification` or `delivery`. */
  details?: { [key: string]: JsonValue }
}

export interface RunUsage {
  steps: number
  toolCalls: number
  inputTokens: number
  outputTokens: number
  cachedTokens: number
}

/** What a run costs; one credit is one cent. `estimated` when a model had no price. */
export interface RunCost {
  credits: number
  currency: string
  estimated: boolean
}

/** What was delivered, or why less than was asked for. */
export interface Delivery {
  mode: 'none' | 'branch' | 'pull_request'
  branch?: string
  commit?: string
  prUrl?: string
  reason?: string
  /** Added lines that look as if they held a secret: look at them before you merge. Absent for none. */
  likelySecrets?: number
}

/** One thing a run waits for; enough to go on after losing everything else. */
export type PendingAction =
  | {
      type: 'tool_call'
      toolCallId: string
      name: string
      arguments: JsonValue
      effect: 'read' | 'workspace' | 'write' | 'destructive'
      idempotent: boolean
      idempotencyKey: string
      expiresAt: string
    }
  | { type: 'approval'; approvalId: string; [key: string]: JsonValue }
  | { type: 'effect'; toolCallId: string; [key: string]: JsonValue }

/** One execution by an agent. Every field is there in every state; what the gate leaves out is null. */
export interface Run {
  id: string
  workOrderId: string | null
  agent: { id: string; slug: string; version: string }
  model: { provider: string; id: string } | null
  mode: Mode
  state: RunState
  status: RunStatus
  statusReason: StatusReason
  pending: PendingAction[]
  /** Number of the newest event. */
  lastSeq: number
  /** Its place in its queue, 1 for the next; `null` unless one queued run was read. */
  queuePosition: number | null
  /** How many workers have claimed the run. */
  attempt: number
  iterations: number
  input: JsonValue
  output: JsonValue
  /** Where the output is, when it is too large to be here. */
  outputUrl: string | null
  partialOutput: JsonValue
  verification: Verification
  delivery: Delivery | null
  prUrl: string | null
  /** Set when the run failed or was canceled. */
  error: RunError | null
  usage: RunUsage
  cost: RunCost
  timing: {
    queuedMs: number | null
    startedAt: string | null
    completedAt: string | null
    durationMs: number | null
    waitingMs: number | null
  }
  createdAt: string
  completedAt: string | null
  cancelRequestedAt: string | null
  canceledAt: string | null
  createdBy: { type: string; id: string }
  /** `{}` when none was given. */
  tenantContext: TenantContext
  projectId: string | null
  purpose: string | null
  metadata: Metadata
  correlationId: string | null
  requestId: string
  traceparent: string | null
  /** The run this one repeats. */
  retryOf: string | null
  constraints: Required<Constraints>
}

/** Starts an agent without a work order. */
export interface CreateRunRequest {
  /** Agent id or slug. */
  agent: string
  input: string | { [key: string]: JsonValue }
  constraints?: Constraints
  webhookUrl?: string
  tenantContext?: TenantContext
  metadata?: Metadata
  correlationId?: string
  projectId?: string
  purpose?: string
  /** Test keys only. */
  test?: TestRequest
}

/** How lists are cut into pages. */
export interface ListParams {
  /** Items per page, 1–100. Default 20. */
  limit?: number
  /** A page's `nextCursor`. */
  after?: string
  /** Items to skip, at most 10,000; not together with `after`. */
  offset?: number
}

export interface ListRunsParams extends ListParams {
  status?: RunStatus
  state?: RunState
  statusReason?: StatusReason
  agent?: string
  tenantId?: string
  tenantUserId?: string
  projectId?: string
  createdAfter?: string | Date
  createdBefore?: string | Date
  /** Runs whose metadata holds all of these. */
  metadata?: { [key: string]: string }
}

export interface ListWorkOrdersParams extends ListParams {
  status?: RunStatus
}

/** A file that a run left: diff, log, gate report, transcript. */
export interface Artifact {
  name: string
  contentType: string
  sizeBytes: number
  /** Of its bytes, in hex. */
  sha256: string
  createdAt: string
  /** Where it is, below the gate's address. */
  url: string
}

/** The account. One credit is one cent. */
export interface CreditBalance {
  includedCreditsCents: number
  purchasedCreditsCents: number
  totalCreditsCents: number
  /** Held for runs that are under way. */
  reservedCreditsCents: number
  billingCycleStart: string
  billingCycleEnd: string
}

export interface CreditTransaction {
  id: string
  type: 'deduction' | 'purchase' | 'refund' | 'grant'
  /** Negative for a deduction, and for what was taken back of a grant that ended. */
  amountCents: number
  runId: string | null
  description: string
  /** Of a grant: when what is left of it is taken back. */
  expiresAt: string | null
  createdAt: string
}

export interface ListUsageParams {
  /** Transactions per page. Default 50. */
  limit?: number
  offset?: number
  type?: CreditTransaction['type']
  runId?: string
  createdAfter?: string | Date
  createdBefore?: string | Date
}

/** Adds credits to the account; needs an administrator's key. */
export interface CreateGrantRequest {
  amountCents: number
  /** Included credits, or purchased ones. Default `grant`. */
  type?: 'grant' | 'purchase'
  reason?: string
  /** When what is left of it is taken back. Default: never. */
  expiresAt?: string
}

/** An API key, without its secret part. */
export interface ApiKey {
  id: string
  name: string | null
  mode: Mode
  /** The tenant it is bound to. */
  tenantId: string | null
  /** The beginning of the key, to tell keys apart. */
  hint: string
  scopes: string[]
  createdAt: string
  expiresAt: string | null
  lastUsedAt: string | null
  revokedAt: string | null
}

export interface CreateKeyRequest {
  name?: string
  /** Such as `runs:read`; some of the creating key's own. Default: all of them. */
  scopes?: string[]
  /** Binds the key to one tenant. */
  tenantId?: string
  expiresAt?: string
}

/** `secret` is the key itself. It is shown once; null when an idempotent repeat answers again. */
export interface CreatedKey {
  key: ApiKey
  secret: string | null
}

/** A credential of a git host, without its secret. */
export interface GitCredential {
  id: string
  host: string
  kind: string
  use: 'read' | 'publish'
  username: string | null
  apiBaseUrl: string | null
  createdAt: string
  lastUsedAt: string | null
}

export interface CreateGitCredentialRequest {
  /** With a port if it has one, such as `github.com`. */
  host: string
  kind: 'basic' | 'token'
  /** For cloning, or for pushing and opening pull requests. */
  use: 'read' | 'publish'
  /** The password or token. It can be written, never read. */
  secret: string
  /** Needed for `basic`. */
  username?: string
  /** Where the host's forge API is, when it is not in the usual place. */
  apiBaseUrl?: string
}

export interface ListGitCredentialsParams extends ListParams {
  host?: string
}

/** What the webhooks of work orders are signed with. */
export interface WebhookSecret {
  /** `whsec_` and base64. Null when an idempotent repeat of a rotation answers again. */
  secret: string | null
  /** Until when deliveries also carry the signature of the secret before. */
  previousSecretUntil: string | null
}
