import { closed, count, list, named, nullable, open, optional, text } from './schema.ts'

const atLeastOne = { minimum: 1 }
const toolNames = (description: string) =>
  list(text('A tool name.', { maxLength: 64 }), description, { maxItems: 100 })

const caps = {
  maxSteps: count('Model calls.', { minimum: 1, maximum: 100_000 }),
  maxToolCalls: count('Tool calls.', { minimum: 0, maximum: 100_000 }),
  maxTokens: nullable(count('Input and output tokens together; null is no cap.', atLeastOne)),
  maxCredits: nullable(
    count('The most the run may cost. Reserved when it is created; null reserves the agent’s estimate.', {
      minimum: 1,
      maximum: 1_000_000,
    }),
  ),
  maxDurationSeconds: count('Seconds in state `running`.', { minimum: 1, maximum: 604_800 }),
  maxWaitSeconds: count('Seconds it may wait for tool results and approvals.', {
    minimum: 1,
    maximum: 31_536_000,
  }),
  maxIdenticalCalls: count('The same tool call with the same result, in a row.', {
    minimum: 1,
    maximum: 100,
  }),
  maxQueueSeconds: nullable(count('Seconds it may wait for a worker; null is no cap.', atLeastOne)),
  requireApprovalFor: toolNames('Tools whose calls a person must approve.'),
  allowTools: nullable(toolNames('The only tools the agent may use; null allows all it has.')),
  denyTools: toolNames('Tools the agent may not use.'),
}

export const ConstraintsRequest = named(
  'ConstraintsRequest',
  closed(
    {
      maxSteps: optional(caps.maxSteps),
      maxToolCalls: optional(caps.maxToolCalls),
      maxTokens: optional(caps.maxTokens),
      maxCredits: optional(caps.maxCredits),
      maxDurationSeconds: optional(caps.maxDurationSeconds),
      maxWaitSeconds: optional(caps.maxWaitSeconds),
      maxIdenticalCalls: optional(caps.maxIdenticalCalls),
      maxQueueSeconds: optional(caps.maxQueueSeconds),
      requireApprovalFor: optional(caps.requireApprovalFor),
      allowTools: optional(caps.allowTools),
      denyTools: optional(caps.denyTools),
    },
    'Caps of the whole run, all iterations together. They can only be tighter than the agent’s own.',
  ),
)

export const Constraints = named('Constraints', open(caps, 'The caps in force.'))
