import type { AgentDriver, DriverContext, DriverEvent, JournalEntry } from '../domain/agent.ts'
import type { JsonValue } from '../domain/json.ts'
import { addTokens, NO_TOKENS, type TokenUsage } from '../domain/money.ts'
import type { RequestedCall, ToolErrorCode } from '../domain/tool-call.ts'
import { type Backoff, backoffMs } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import { newId } from '../lib/id.ts'
import { conversationOf, readRecord } from './conversation.ts'
import { type Asked, driveJournal } from './driver-run.ts'
import { outcomesOf, type StepEntry, stepsOf } from './journal.ts'
import {
  boundTokens,
  type ModelAnswer,
  type ModelClient,
  type ModelFailure,
  type ModelRequest,
  requestText,
} from './model-step.ts'
import { pause } from './pause.ts'

export interface LoopOptions {
  client: ModelClient
  clock: Clock
  /** In [0, 1), spreads the waits. */
  random: () => number
  log: { warn(facts: object, message: string): void }
  /** Estimated tokens of a conversation above which it is compacted. */
  contextTokens: number
  /** Waits between the tries of one step. */
  retry?: Backoff
}

/** Tries of one step with one model. */
const ATTEMPTS = 4
const RETRY: Backoff = { firstMs: 1_000, factor: 3, maxMs: 30_000 }
/** A provider that asks for more patience than this is given up for the step. */
const MAX_RETRY_AFTER_MS = 60_000
const MAX_UNUSABLE_STEPS = 3

/**
 * An agent that is a model in a loop: asked for a step, its calls run, asked again. The conversation is rebuilt
 * from the journal each time, so a resumed run asks what the first one would have asked.
 */
export function loopDriver(options: LoopOptions): AgentDriver {
  const drive = (context: DriverContext) =>
    driveJournal(context, (question) => askModels(context, options, question), wasCutShort)
  return { id: 'loop', asksModel: true, start: drive, resume: drive }
}

/** What one model made of a step, with what its failed tries cost. */
type Tried = { answer: ModelAnswer; wasted: TokenUsage }

interface Question {
  journal: readonly JournalEntry[]
  step: number
  signal: AbortSignal
}

/** Tries the models in order, each until its retries are used up. */
async function* askModels(
  context: DriverContext,
  options: LoopOptions,
  { journal, step, signal }: Question,
): AsyncGenerator<DriverEvent, Asked, void> {
  if (onlyUnusable(journal, context.iteration))
    return failed('agent_error', `The agent made no usable call in ${MAX_UNUSABLE_STEPS} steps in a row.`)
  let spent = NO_TOKENS
  let last: ModelFailure | null = null
  for (const model of inOrder(context.models, journal)) {
    const request: ModelRequest = {
      model,
      instructions: context.instructions,
      messages: conversationOf(context, journal, { model, budgetTokens: options.contextTokens }),
      tools: context.tools,
    }
    yield { type: 'step.started', step, model, worstCase: worstCaseOf(request, options.client) }
    const { answer, wasted } = yield* askPatiently(request, options, { runId: context.runId, step, signal })
    spent = addTokens(spent, wasted)
    if (answer.outcome === 'canceled')
      return { type: 'stopped', spent: addTokens(spent, answer.spent ?? NO_TOKENS) }
    if (answer.outcome === 'answered') return accepted(answer, { model, step, spent, clock: options.clock })
    last = answer
  }
  if (last === null) return failed('driver_unavailable', 'The agent has no model.')
  const { reason, message, retryable } = last
  return { type: 'failed', reason, message, retryable, spent }
}

/** One model, with waits between the tries: its own growing ones, or what the provider asks for. */
async function* askPatiently(
  request: ModelRequest,
  { client, clock, random, log, retry = RETRY }: LoopOptions,
  { runId, step, signal }: { runId: string; step: number; signal: AbortSignal },
): AsyncGenerator<DriverEvent, Tried, void> {
  let wasted = NO_TOKENS
  for (let attempt = 1; ; attempt++) {
    const answer = yield* askStreaming(client, request, signal)
    if (answer.outcome !== 'failed') return { answer, wasted }
    wasted = addTokens(wasted, answer.spent ?? NO_TOKENS)
    const waitMs = Math.max(backoffMs(retry, attempt, random()), answer.retryAfterMs ?? 0)
    const again = answer.retryable && attempt < ATTEMPTS && waitMs <= MAX_RETRY_AFTER_MS
    const facts = {
      runId,
      step,
      model: request.model,
      attempt,
      reason: answer.reason,
      detail: answer.message,
    }
    log.warn(
      again ? { ...facts, waitMs } : facts,
      again ? 'model call failed, trying again' : 'model call failed',
    )
    if (!again) return { answer, wasted }
    await pause(clock, waitMs, signal)
    if (signal.aborted) return { answer: { outcome: 'canceled', spent: null }, wasted }
  }
}

/** Hands draft text on while the call is under way; a reader that leaves ends the call. */
async function* askStreaming(
  client: ModelClient,
  request: ModelRequest,
  signal: AbortSignal,
): AsyncGenerator<DriverEvent, ModelAnswer, void> {
  const left = new AbortController()
  let draft = ''
  let over = false
  let wake = (): void => undefined
  const onText = (delta: string): void => {
    draft += delta
    wake()
  }
  const call = client.step({ ...request, onText }, AbortSignal.any([signal, left.signal])).finally(() => {
    over = true
    wake()
  })
  // Met where it is awaited, which is later while a reader thinks about a draft.
  call.catch(() => undefined)
  try {
    for (;;) {
      if (draft !== '') {
        const delta = draft
        draft = ''
        yield { type: 'text', delta }
      } else if (over) return await call
      else await new Promise<void>((resolve) => (wake = resolve))
    }
  } finally {
    left.abort()
    await call
  }
}

type Answered = Extract<ModelAnswer, { outcome: 'answered' }>

function accepted(
  answer: Answered,
  { model, step, spent, clock }: { model: string; step: number; spent: TokenUsage; clock: Clock },
): Asked {
  const usage = addTokens(spent, answer.usage)
  if (answer.finish === 'content-filter' && answer.calls.length === 0)
    return {
      ...failed('model_error', 'The model provider withheld the answer (content filter).'),
      spent: usage,
    }
  const record: JsonValue = { model, finish: answer.finish, messages: answer.messages }
  return {
    type: 'step.completed',
    step,
    model,
    record,
    text: answer.text,
    calls: answer.calls.map((call): RequestedCall => ({ id: newId('call', clock.now()), ...call })),
    usage,
    usageReported: answer.usageReported && spent.inputTokens + spent.outputTokens === 0,
    providerRequestId: answer.providerRequestId,
  }
}

const failed = (reason: 'model_error' | 'agent_error' | 'driver_unavailable', message: string) =>
  ({ type: 'failed', reason, message, retryable: false }) as const

/** What the call can cost at most: every byte of the request, and an answer of full length. */
const worstCaseOf = (request: ModelRequest, client: ModelClient): TokenUsage => ({
  inputTokens: boundTokens(Buffer.byteLength(requestText(request))),
  outputTokens: client.maxOutputTokens,
  cachedTokens: 0,
})

/** A run stays with the model that answered last: the others failed, and its provider has the conversation cached. */
function inOrder(models: readonly string[], journal: readonly JournalEntry[]): readonly string[] {
  const record = readRecord(stepsOf(journal).at(-1)?.record ?? null)
  if (record === null || !models.includes(record.model)) return models
  return [record.model, ...models.filter((model) => model !== record.model)]
}

/** An answer that was cut off before it called anything is not the end of an iteration. */
const wasCutShort = (step: StepEntry): boolean =>
  step.calls.length === 0 && readRecord(step.record)?.finish === 'length'

/** Whether the latest steps all had only calls that could not be taken, or were cut off. */
function onlyUnusable(journal: readonly JournalEntry[], iteration: number): boolean {
  const latest = stepsOf(journal)
    .filter((step) => step.iteration === iteration)
    .slice(-MAX_UNUSABLE_STEPS)
  const outcomes = outcomesOf(journal)
  const unusable = latest.every((step) =>
    step.calls.length === 0
      ? wasCutShort(step)
      : step.calls.every((call) => {
          const outcome = outcomes.get(call.id)
          return outcome?.ok === false && UNUSABLE.has(outcome.code)
        }),
  )
  return unusable && latest.length === MAX_UNUSABLE_STEPS
}

const UNUSABLE: ReadonlySet<string> = new Set<ToolErrorCode>(['unknown_tool', 'invalid_arguments'])
