import type { AgentDriver, DriverContext, DriverEvent, DriverRun } from '../domain/agent.ts'
import type { JsonValue } from '../domain/json.ts'
import type { HeldRun } from '../domain/performer.ts'
import type { Clock } from '../lib/clock.ts'
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
  clean: (text: string) => string
  /** Called when all calls of a step that may have changed the workspace are done, before the next step. */
  onSettled: (step: number) => Promise<void>
}

/** Lets the agent work until it says it is finished; every step is journaled before anything follows from it. */
export async function runAgentTurn(turn: AgentTurn): Promise<JsonValue> {
  const context = await contextOf(turn)
  const begin = context.journal.length === 0 ? turn.driver.start : turn.driver.resume
  const driving = begin.call(turn.driver, context)
  const settled = new StepTracker(turn)
  try {
    for await (const event of driving.events) {
      if (event.type === 'finished') {
        await settled.settle()
        return event.output
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

async function contextOf({ held, input, instructions, toolbox }: AgentTurn): Promise<DriverContext> {
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
      await held.send({ type: 'begin_step', step, model, worstCase })
      return
    }
    case 'text':
      held.draft(event.delta)
      return
    case 'step.completed':
      await endStep(turn, event)
      return
    case 'tool.requested': {
      const outcome = await runCall(turn, event.step, event.call)
      if (toolbox.get(event.call.name)?.definition.effect !== 'read') settled.touched(event.step)
      driving.submitToolResult(event.call.id, outcome)
      return
    }
    case 'failed':
      throw new RunFails({
        reason: event.reason,
        stage: 'agent',
        message: event.message,
        retryable: event.retryable,
      })
  }
}

async function endStep(
  { held, toolbox, clean }: AgentTurn,
  event: Extract<DriverEvent, { type: 'step.completed' }>,
): Promise<void> {
  const { step, model, usage, usageReported, record, calls } = event
  const text = clean(event.text)
  const iteration = held.run.iteration.n
  await held.send(
    {
      type: 'end_step',
      step,
      model,
      usage,
      usageReported,
      text,
      calls: calls.map((call) => summariseCall(call, toolbox)),
    },
    [{ kind: 'step', step, iteration, record, text, calls, usage }],
  )
}

/** Remembers which step's calls touched the workspace since it was last saved. */
class StepTracker {
  readonly #turn: AgentTurn
  #touched: number | null = null
  constructor(turn: AgentTurn) {
    this.#turn = turn
  }
  touched(step: number): void {
    this.#touched = step
  }
  async settle(): Promise<void> {
    if (this.#touched === null) return
    await this.#turn.onSettled(this.#touched)
    this.#touched = null
  }
}
