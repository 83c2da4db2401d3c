import { AGENTS } from '../agents/coder.ts'
import type { AgentDriver } from '../domain/agent.ts'
import { isJsonObject, type JsonValue } from '../domain/json.ts'
import { ClaimLost, type HeldRun, LimitReached, type Performer } from '../domain/performer.ts'
import type { Run } from '../domain/run.ts'
import { DeliveryError, SourceError } from '../workspaces/failures.ts'
import { runAgentTurn } from './agent-turn.ts'
import { keepArtifact, transcriptOf } from './artifacts.ts'
import { OrderConduct, type OrderRoom } from './order.ts'
import { type FailureFacts, RunFails } from './run-fails.ts'

export interface ConductorOptions extends OrderRoom {
  drivers: { loop: AgentDriver; scripted: AgentDriver }
  log: { error(facts: object, sentence: string): void }
}

/** What a claimed run does: drive its agent and, for a work order, clone, verify and deliver around it. */
export class Conductor implements Performer {
  readonly #options: ConductorOptions

  constructor(options: ConductorOptions) {
    this.#options = options
  }

  /** A run without a workspace keeps everything; a work order what its newest checkpoint or bundle contains. */
  async resumePoint(run: Run): Promise<number> {
    if (run.facts.order === null) return run.begunStep
    const kept = await this.#options.workspaces.newestCheckpoint(run.facts.id)
    return kept ?? run.sealed?.step ?? 0
  }

  async perform(held: HeldRun): Promise<void> {
    try {
      await this.#work(held)
    } catch (error) {
      if (error instanceof ClaimLost || held.signal.aborted) throw error
      const failure = failureOf(error, held.run)
      if (failure === null) throw error
      await this.#keepTranscript(held)
      await held.send({ type: 'fail', ...failure })
      return
    }
    await this.#keepTranscript(held)
  }

  async #work(held: HeldRun): Promise<void> {
    const { facts } = held.run
    const agent = this.#agentOf(held.run)
    if (facts.order !== null) {
      await new OrderConduct(this.#options, held, { order: facts.order, agent }).perform()
      return
    }
    const { clock, clean } = this.#options
    const onSettled = async (): Promise<void> => undefined
    const output = await runAgentTurn({ held, ...agent, toolbox: new Map(), clock, clean, onSettled })
    await held.send({ type: 'complete', reason: 'completed', output, delivery: null })
  }

  /** Test runs follow a script and never meet a model. */
  #agentOf({ facts }: Run): { driver: AgentDriver; instructions: string; input: JsonValue } {
    const { loop, scripted } = this.#options.drivers
    const isScripted = facts.mode === 'test' || facts.agent.kind === 'scripted'
    const asked = facts.order?.taskPrompt ?? facts.input
    const script = facts.script ?? (isJsonObject(facts.input) && 'steps' in facts.input ? facts.input : null)
    return {
      driver: isScripted ? scripted : loop,
      instructions: AGENTS.get(facts.agent.slug)?.instructions ?? '',
      input: isScripted ? (script ?? asked) : asked,
    }
  }

  /** The conversation of a work order is kept for people, also when it failed. */
  async #keepTranscript(held: HeldRun): Promise<void> {
    const { facts, begunStep } = held.run
    if (facts.order === null || begunStep === 0) return
    const data = transcriptOf(await held.journal())
    await keepArtifact(this.#options, facts.id, {
      name: 'transcript.jsonl',
      data,
      mediaType: 'application/x-ndjson',
    })
  }
}

/** The reason of the table that an error stands for; `null` for an error of ours. */
function failureOf(error: unknown, run: Run): FailureFacts | null {
  if (error instanceof RunFails) return error.facts
  if (error instanceof LimitReached) return { reason: error.reason, stage: 'agent', message: error.message }
  if (error instanceof SourceError) {
    return { reason: error.reason, stage: 'workspace', message: error.message, retryable: error.retryable }
  }
  if (error instanceof DeliveryError) {
    const { pushed } = run
    return {
      reason: error.reason,
      stage: 'delivery',
      message: error.message,
      retryable: error.retryable,
      delivery: pushed === null ? null : { mode: 'branch', ...pushed },
    }
  }
  return null
}
