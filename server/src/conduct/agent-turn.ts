import type { AgentDriver, DriverContext, DriverEvent, DriverRun } from '../domain/agent.ts'
import type { JsonValue } from '../domain/json.ts'
import { hasTokens, NO_TOKENS, type TokenUsage } from '../domain/money.ts'
import type { HeldRun } from '../domain/performer.ts'
import { cleanJson } from '../lib/clean-json.ts'
import type { Clock } from '../lib/clock.ts'
import { middleOut } from '../lib/text.ts'
import { DraftGuard } from './draft-guard.ts'
import { keepCall, type Secrecy } from './kept-call.ts'
import type { RacePoint } from './race-points.ts'
import { RunFails } from './run-fails.ts'
import { runCall, summariseCall, type Toolbox } from './tool-pipeline.ts'

export interface AgentTurn {
  held: HeldRun
  driver: AgentDriver
  /** What the agent was asked: a prompt, or the object given to the run. */
  input: JsonValue
  instructions: string
  toolbox: Toolbox
  clock: Clock
  secrecy: Secrecy
  pause: (point: RacePoint) => Promise<void>
  /** Called when all calls of a step that may have changed the workspace are done, before the next step. */
  onSettled: (step: number) => Promise<void>
}

/** Lets the agent work until it says it is finished; every step is journaled before anything follows from it. */
export async function runAgentTurn(turn: AgentTurn): Promise<JsonValue> {
  const context = await contextOf(turn)
  const isNew = context.journal.length === 0
  const driving = isNew ? turn.driver.start(context) : turn.driver.resume(context)
  const settled = new StepTracker(turn)
  try {
    for await (const event of driving.events) {
      if (event.type === 'finished') {
        await settled.settle()
        return cleanJson(event.output, turn.secrecy.clean)
      }
      await take(turn, driving, settled, event)
    }
  } finally {
    await driving.cancel('the turn is over')
  }
  turn.held.signal.throwIfAborted()
  throw new RunFails({
    reason: 'agent_error',
    stage: 'agent',
    message: 'The agent stopped without finishing.',
  })
}

async function contextOf({ held, input, instructions, toolbox, secrecy }: AgentTurn): Promise<DriverContext> {
  const { facts, begunStep, iteration } = held.run
  return {
    runId: facts.id,
    mode: facts.mode,
    iteration: iteration.n,
    nextStep: begunStep + 1,
    instructions,
    input,
    tools: [...toolbox.values()].map(({ definition }) => definition),
    models: facts.models,
    journal: await held.journal(),
    keeping: { clean: secrecy.clean, keepCall: (call) => keepCall(call, secrecy) },
    signal: held.signal,
  }
}

async function take(
  turn: AgentTurn,
  driving: DriverRun,
  settled: StepTracker,
  event: Exclude<DriverEvent, { type: 'finished' }>,
): Promise<void> {
  const { held, toolbox } = turn
  switch (event.type) {
    case 'step.started': {
      await settled.settle()
      const { step, model, worstCase } = event
      settled.begun = { step, model }
      const begin = { type: 'begin_step', step, model, worstCase } as const
      if (turn.driver.asksModel) await held.send(begin)
      else held.defer(begin)
      return
    }
    case 'text':
      settled.draft.take(event.delta)
      return
    case 'step.completed':
      settled.draft.flush()
      await turn.pause('step.answered')
      await endStep(turn, event)
      return
    case 'tool.requested': {
      const outcome = await runCall(turn, event.step, event.call)
      const effect = toolbox.get(event.call.name)?.definition.effect
      if (effect !== undefined && effect !== 'read') settled.touched(event.step)
      driving.submitToolResult(event.call.id, outcome)
      return
    }
    case 'stopped':
      payFor(turn, settled.begun, event.spent)
      return
    case 'failed':
      payFor(turn, settled.begun, event.spent ?? NO_TOKENS)
      throw new RunFails({
        reason: event.reason,
        stage: 'agent',
        message: event.message,
        retryable: event.retryable,
      })
  }
}

/** A step without an end is paid for as far as the model had answered; written together with the run's next word. */
function payFor({ held }: AgentTurn, begun: StepTracker['begun'], spent: TokenUsage): void {
  if (begun === null || !hasTokens(spent)) return
  held.defer({ type: 'end_step', ...begun, usage: spent, usageReported: false, text: '', calls: [] })
}

/** Kept of what the agent says in its event; the journal and the transcript have it whole. */
const MESSAGE_CHARACTERS = 64 * 1024

async function endStep(
  { held, toolbox }: AgentTurn,
  event: Extract<DriverEvent, { type: 'step.completed' }>,
): Promise<void> {
  const { step, model, usage, usageReported, record, text, calls } = event
  const iteration = held.run.iteration.n
  const said = middleOut(text, MESSAGE_CHARACTERS)
  const summaries = calls.map((call) => summariseCall(call, toolbox))
  held.defer({ type: 'end_step', step, model, usage, usageReported, text: said, calls: summaries }, [
    { kind: 'step', step, iteration, record, text, calls, usage },
  ])
  // Without tools nothing happens between the last answer and the end, which are written together.
  if (calls.length > 0 || toolbox.size > 0) await held.flush()
}

/** Remembers the step that is under way, and which step's calls touched the workspace since it was last saved. */
class StepTracker {
  readonly #turn: AgentTurn
  readonly draft: DraftGuard
  begun: { step: number; model: string } | null = null
  #touched: number | null = null
  constructor(turn: AgentTurn) {
    this.#turn = turn
    this.draft = new DraftGuard(turn.secrecy.clean, (text) => turn.held.draft(text))
  }
  touched(step: number): void {
    this.#touched = step
  }
  async settle(): Promise<void> {
    if (this.#touched === null) return
    // A checkpoint holds what the calls did, so their outcomes are written first.
    await this.#turn.held.flush()
    await this.#turn.onSettled(this.#touched)
    this.#touched = null
  }
}
