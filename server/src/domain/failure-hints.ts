import type { FailedReason } from './lifecycle.ts'

/** What to do about a failed run, one sentence for each reason; a failure that knows better says it itself. */
export const FAILURE_HINTS: Readonly<Record<FailedReason, string>> = {
  limit_steps: 'Ask for less in one order, or raise constraints.maxSteps as far as the agent allows.',
  limit_tool_calls:
    'Ask for less in one order, or raise constraints.maxToolCalls as far as the agent allows.',
  limit_tokens: 'Ask for less in one order, or raise constraints.maxTokens.',
  limit_credits: 'Raise constraints.maxCredits, then retry the run.',
  limit_time:
    'Ask for less in one order, or raise constraints.maxDurationSeconds as far as the agent allows.',
  limit_wait: 'Answer sooner, or raise constraints.maxWaitSeconds.',
  limit_iterations:
    'Read the gate reports among the artifacts, make the prompt more precise, or raise maxIterations.',
  loop_detected: 'Read the transcript among the artifacts and make the prompt more precise.',
  verification_failed: 'Read the gate reports among the artifacts.',
  policy_denied: 'Ask whoever is responsible for the policy.',
  approval_rejected: 'Read the reason that was given with the decision.',
  approval_expired: 'Retry the run when somebody can decide.',
  tool_expired: 'Retry the run and answer its tool calls in time.',
  output_invalid: 'Make the prompt say which output is wanted, or loosen the output schema.',
  model_error: 'Retry the run later; if it fails again, check the model and its provider.',
  provider_auth_failed: 'Give the gateway a valid key of the model provider, then retry the run.',
  agent_error: 'Read the transcript among the artifacts; retry the run or make the prompt more precise.',
  outcome_unknown: 'Find out whether the effect happened before you retry the run.',
  queue_expired: 'Retry the run when fewer are waiting, or raise constraints.maxQueueSeconds.',
  insufficient_credits: 'Add credits, then retry the run.',
  source_unavailable: 'Check that the host is up and the URL right, then retry the run.',
  source_auth_failed:
    'Store a credential that may read the repository with POST /v1/git-credentials, then retry the run.',
  source_invalid: 'Mend workspaceSource in a new order.',
  workspace_failed: 'Read the logs among the artifacts; retry the run once the cause is mended.',
  disk_limit: 'Ask for a smaller change or repository, or let the operator raise AGENTGATE_DISK_LIMIT_MB.',
  gate_error: 'Mend the gate plan of the order or of the repository.',
  driver_unavailable: 'Let the operator configure a model for this agent, then retry the run.',
  base_moved: 'Retry the run: it begins from the present state of the branch.',
  push_rejected:
    'Store a credential with use "publish" that may push here, or choose another delivery.branch.',
  delivery_failed: 'Retry the run when the host answers again.',
  system_error: 'Retry the run; if it fails again, give the operator its request id.',
}
