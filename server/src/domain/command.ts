import {
  type Completion,
  canceled,
  completed,
  type Failure,
  failed,
  type HoldersStop,
  timeLimit,
} from './ends.ts'
import type { EventBody, EventData, GateSummary, ResumeCause, SetupSummary } from './event.ts'
import type { JsonValue } from './json.ts'
import type { FailedReason, Verification } from './lifecycle.ts'
import { isFinal } from './lifecycle.ts'
import type { TokenUsage } from './money.ts'
import { creditsCharged, MICRO_PER_CREDIT, priceSeconds, priceTokens } from './money.ts'
import { costSoFar, dueAt, queueDeadline, type Run, stageOf, timeDeadline } from './run.ts'
import type { ToolEffect, ToolErrorCode } from './tool-call.ts'

/** Whatever happens to a run. Commands carry their time; `at` is milliseconds since the epoch. */
export type Command = { at: number } & (
  | { type: 'create' }
  | { type: 'claim'; cause: ResumeCause | null; fromStep?: number }
  | { type: 'cancel'; by: string }
  | { type: 'tick' }
  /** The holder gives the run back; the events say nothing, the next claim does. */
  | { type: 'hand_back' }
  | WorkCommand
)

/** What the holder of a claim reports. */
export type WorkCommand =
  | {
      type: 'workspace_ready'
      repository: string
      branch: string
      commit: string
      jail: string
      setup?: SetupSummary[]
    }
  | { type: 'begin_iteration'; iteration: number }
  | { type: 'begin_step'; step: number; model: string; worstCase: TokenUsage }
  | {
      type: 'end_step'
      step: number
      model: string
      usage: TokenUsage
      usageReported: boolean
      text: string
      calls: CallSummary[]
    }
  | { type: 'begin_tool'; step: number; toolCallId: string; name: string }
  | {
      type: 'end_tool'
      step: number
      toolCallId: string
      name: string
      durationMs: number
      digest: string
      result: ToolEnd
    }
  | {
      type: 'end_iteration'
      iteration: number
      commit: string
      tree: string
      changed: boolean
      bundle: string | null
    }
  | { type: 'begin_verification'; iteration: number; gates: string[] }
  | { type: 'pass_verification'; iteration: number; gates: GateSummary[]; verification: Verification }
  | { type: 'fail_verification'; iteration: number; gates: GateSummary[]; feedback: string }
  | { type: 'pushed'; branch: string; commit: string; repository: string }
  | { type: 'pull_request'; prUrl: string; number: number | null; branch: string; draft: boolean }
  | ({ type: 'complete' } & Completion)
  | ({ type: 'fail'; how?: HoldersStop } & Failure)
  /** The holder's word that nothing of the run works any more. */
  | { type: 'stopped'; how: HoldersStop }

export interface CallSummary {
  id: string
  name: string
  arguments: JsonValue
  argumentsTruncated: boolean
  effect: ToolEffect | null
}

export type ToolEnd = { ok: true; preview: string } | { ok: false; code: ToolErrorCode; message: string }

/** Why a command changes nothing. Limits are for the holder to end the run with. */
export type Refusal =
  | { refused: 'run_finished' }
  | { refused: 'not_running' }
  | { refused: 'cancel_requested' }
  | { refused: 'limit'; reason: FailedReason; message: string }

export type Decision = { events: EventBody[] } | Refusal

export const isRefusal = (decision: Decision): decision is Refusal => 'refused' in decision

/** What the run becomes by this command. Pure: the same run and command always give the same events. */
export function decide(run: Run, command: Command): Decision {
  if (command.type === 'create') {
    return { events: [{ type: 'run.created', data: { heldMicro: run.facts.reserveMicro } }] }
  }
  if (isFinal(run.state)) return { refused: 'run_finished' }
  switch (command.type) {
    case 'claim':
      return claim(run, command)
    case 'cancel':
      return cancel(run, command)
    case 'tick':
      return tick(run, command.at)
    case 'hand_back':
      return { events: [] }
    default:
      return run.state === 'running' ? work(run, command) : { refused: 'not_running' }
  }
}

/** So many claims in a row may pass without a journaled step, those after a hand-over aside; then the run is poison. */
export const MAX_STRIKES = 3

function claim(run: Run, command: Extract<Command, { type: 'claim' }>): Decision {
  // Who gave the run back had stopped; of a worker that was lost nothing is known.
  const how = command.cause === 'handed_back' ? 'agreed' : 'fenced'
  if (run.cancelRequestedAt !== null) return { events: [canceled(run, command.at, how)] }
  if (run.strikes >= MAX_STRIKES && command.cause !== 'handed_back') {
    const message = `${run.strikes} workers in a row were lost before the run had finished a further step; it is not tried again.`
    const failure: Failure = { reason: 'agent_error', stage: stageOf(run), message }
    return { events: [failed(run, command.at, { ...failure, how })] }
  }
  const deadline = timeDeadline(run)
  if (deadline !== null && command.at >= deadline)
    return { events: [failed(run, command.at, { ...timeLimit(run), how })] }
  const attempt = run.attempt + 1
  if (run.startedAt === null) return { events: [{ type: 'run.started', data: { attempt } }] }
  const fromStep = command.fromStep ?? run.begunStep
  return {
    events: [{ type: 'run.resumed', data: { attempt, fromStep, cause: command.cause ?? 'worker_lost' } }],
  }
}

function cancel(run: Run, command: Extract<Command, { type: 'cancel' }>): Decision {
  const nobodyHasIt = run.startedAt === null ? 'never_started' : 'agreed'
  if (run.state !== 'running') return { events: [canceled(run, command.at, nobodyHasIt)] }
  if (run.cancelRequestedAt !== null) return { events: [] }
  return { events: [{ type: 'run.cancel_requested', data: { by: command.by } }] }
}

function tick(run: Run, at: number): Decision {
  const due = dueAt(run)
  if (due === null || at < due) return { events: [] }
  if (run.state === 'queued' && due === queueDeadline(run)) {
    const message = `No worker was free within ${run.facts.constraints.maxQueueSeconds} seconds.`
    const failure: Failure = { reason: 'queue_expired', stage: 'workspace', message, retryable: true }
    return { events: [failed(run, at, { ...failure, how: 'never_started' })] }
  }
  return { events: [failed(run, at, { ...timeLimit(run), how: 'fenced' })] }
}

function work(run: Run, command: WorkCommand & { at: number }): Decision {
  switch (command.type) {
    case 'begin_step':
      return beginStep(run, command)
    case 'end_step':
      return endStep(run, command)
    case 'end_tool':
      return endTool(command)
    case 'complete':
      return { events: [completed(run, command.at, command)] }
    case 'fail':
      return { events: [failed(run, command.at, { how: 'agreed', ...command })] }
    case 'stopped':
      return { events: [canceled(run, command.at, command.how)] }
    default:
      return { events: [report(command)] }
  }
}

/** The commands that are events as they stand. */
type PlainCommand = Exclude<
  WorkCommand,
  { type: 'begin_step' | 'end_step' | 'end_tool' | 'complete' | 'fail' | 'stopped' }
>

function report(command: PlainCommand): EventBody {
  switch (command.type) {
    case 'workspace_ready':
      return {
        type: 'workspace.ready',
        data: pick(command, ['repository', 'branch', 'commit', 'jail', 'setup']),
      }
    case 'begin_iteration':
      return { type: 'iteration.started', data: pick(command, ['iteration']) }
    case 'end_iteration':
      return {
        type: 'iteration.completed',
        data: pick(command, ['iteration', 'commit', 'tree', 'changed', 'bundle']),
      }
    case 'begin_tool':
      return { type: 'tool.started', data: pick(command, ['step', 'toolCallId', 'name']) }
    case 'begin_verification':
      return { type: 'verification.started', data: pick(command, ['iteration', 'gates']) }
    case 'pass_verification':
      return { type: 'verification.passed', data: pick(command, ['iteration', 'gates', 'verification']) }
    case 'fail_verification':
      return { type: 'verification.failed', data: pick(command, ['iteration', 'gates', 'feedback']) }
    case 'pushed':
      return { type: 'delivery.pushed', data: pick(command, ['branch', 'commit', 'repository']) }
    case 'pull_request':
      return { type: 'delivery.pull_request', data: pick(command, ['prUrl', 'number', 'branch', 'draft']) }
  }
}

function pick<T, K extends keyof T>(from: T, keys: readonly K[]): Pick<T, K> {
  const picked: Partial<Pick<T, K>> = {}
  for (const key of keys) if (from[key] !== undefined) picked[key] = from[key]
  return picked as Pick<T, K> // what is optional in T may be missing
}

function beginStep(run: Run, command: Extract<Command, { type: 'begin_step' }>): Decision {
  if (run.cancelRequestedAt !== null) return { refused: 'cancel_requested' }
  const limit = limitReached(run)
  if (limit !== null) return limit
  const heldMicro = holdFor(run, command)
  if (typeof heldMicro !== 'number') return heldMicro
  const { step, model } = command
  return { events: [{ type: 'step.started', data: { step, iteration: run.iteration.n, model, heldMicro } }] }
}

function limitReached(run: Run): Refusal | null {
  const { constraints } = run.facts
  const { usage } = run
  const over = (reason: FailedReason, message: string): Refusal => ({ refused: 'limit', reason, message })
  if (usage.steps >= constraints.maxSteps)
    return over('limit_steps', `All ${constraints.maxSteps} steps are used up.`)
  if (usage.toolCalls >= constraints.maxToolCalls) {
    return over('limit_tool_calls', `All ${constraints.maxToolCalls} tool calls are used up.`)
  }
  const tokens = usage.inputTokens + usage.outputTokens
  if (constraints.maxTokens !== null && tokens >= constraints.maxTokens) {
    return over('limit_tokens', `${tokens} of ${constraints.maxTokens} tokens are used.`)
  }
  if (run.identicalCalls >= constraints.maxIdenticalCalls) {
    return over(
      'loop_detected',
      `The agent made the same call ${run.identicalCalls} times in a row, with the same result.`,
    )
  }
  return null
}

/** Five minutes of work are held beyond the tokens of a step, so that what follows the step is covered too. */
const HELD_AHEAD_MS = 5 * 60_000

/** The hold with which the step may start: it covers all so far and the step's worst case, in whole credits. */
function holdFor(run: Run, command: Extract<Command, { type: 'begin_step' }>): number | Refusal {
  const { prices, constraints } = run.facts
  if (prices === null) return run.heldMicro
  const worst =
    priceTokens(prices, command.model, command.worstCase).micro + priceSeconds(prices, HELD_AHEAD_MS)
  const needed = creditsCharged(costSoFar(run, command.at) + worst) * MICRO_PER_CREDIT
  if (constraints.maxCredits !== null && needed > constraints.maxCredits * MICRO_PER_CREDIT) {
    const message = `The next step may cost more than what is left of ${constraints.maxCredits} credits.`
    return { refused: 'limit', reason: 'limit_credits', message }
  }
  return Math.max(run.heldMicro, needed)
}

function endStep(run: Run, command: Extract<Command, { type: 'end_step' }>): Decision {
  const { step, model, usage, calls } = command
  const { prices } = run.facts
  const price = prices === null ? { micro: 0, estimated: false } : priceTokens(prices, model, usage)
  const data = {
    step,
    iteration: run.iteration.n,
    model,
    usage,
    costMicro: price.micro,
    estimated: price.estimated || !command.usageReported,
    toolCalls: calls.length,
  }
  const events: EventBody[] = [{ type: 'step.completed', data }]
  if (command.text !== '') events.push({ type: 'message.completed', data: { step, text: command.text } })
  for (const call of calls) {
    const { id: toolCallId, name, arguments: args, argumentsTruncated, effect } = call
    const data = { step, toolCallId, name, arguments: args, argumentsTruncated, effect }
    events.push({ type: 'tool.requested', data })
  }
  events.push(...warnings(run, data))
  return { events }
}

/** Each limit is warned of once, at 80 %, by the step that reaches it. */
function warnings(run: Run, step: EventData['step.completed']): EventBody[] {
  const { usage, warned } = run
  const { constraints } = run.facts
  const tokens = usage.inputTokens + usage.outputTokens + step.usage.inputTokens + step.usage.outputTokens
  const limits = [
    { limit: 'steps', used: usage.steps + 1, max: constraints.maxSteps },
    { limit: 'tool_calls', used: usage.toolCalls + step.toolCalls, max: constraints.maxToolCalls },
    { limit: 'tokens', used: tokens, max: constraints.maxTokens },
    { limit: 'credits', used: creditsCharged(run.costMicro + step.costMicro), max: constraints.maxCredits },
  ] as const
  return limits.flatMap(({ limit, used, max }) =>
    max !== null && used >= 0.8 * max && !warned.includes(limit)
      ? [{ type: 'run.limit_warning' as const, data: { limit, used, max } }]
      : [],
  )
}

function endTool(command: Extract<Command, { type: 'end_tool' }>): Decision {
  const { step, toolCallId, name, durationMs, digest, result } = command
  if (result.ok) {
    const { preview } = result
    return {
      events: [{ type: 'tool.completed', data: { step, toolCallId, name, durationMs, preview, digest } }],
    }
  }
  const { code, message } = result
  const data = { step, toolCallId, name, durationMs, code, message, digest }
  return { events: [{ type: 'tool.failed', data }] }
}
