import { AGENTS } from '../agents/coder.ts'
import type { AgentDriver } from '../domain/agent.ts'
import type { WorkCommand } from '../domain/command.ts'
import type { Failure } from '../domain/ends.ts'
import type { Mode } from '../domain/facts.ts'
import { isJsonObject, type JsonValue } from '../domain/json.ts'
import { ClaimLost, type HeldRun, isOver, LimitReached, type Performer } from '../domain/performer.ts'
import { type Run, stageOf } from '../domain/run.ts'
import { cleanJson } from '../lib/clean-json.ts'
import type { Clean } from '../lib/redact.ts'
import { DeliveryError, SourceError } from '../workspaces/failures.ts'
import { runAgentTurn } from './agent-turn.ts'
import { keepArtifact, transcriptOf } from './artifacts.ts'
import type { Secrecy } from './kept-call.ts'
import { OrderConduct, type OrderRoom } from './order.ts'
import type { RacePoint } from './race-points.ts'
import { RunFails } from './run-fails.ts'

export interface ConductorOptions extends OrderRoom {
  drivers: { loop: AgentDriver; scripted: AgentDriver }
  /** Masks what this organisation and this gateway keep secret and, unless it said otherwise, what is likely to be. */
  secrecyOf: (run: { organizationId: string; mode: Mode; hasWorkspace: boolean }) => Promise<Secrecy>
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
    const { organizationId, mode, order } = held.run.facts
    const secrecy = await this.#options.secrecyOf({ organizationId, mode, hasWorkspace: order !== null })
    const { clean } = secrecy
    const agent = this.#agentOf(held.run)
    const pause = (point: RacePoint): Promise<void> => this.#options.pause(point, held.run.facts.id)
    await pause('claim.taken')
    if (order === null) {
      const { clock } = this.#options
      const onSettled = async (): Promise<void> => undefined
      const output = runAgentTurn({ held, ...agent, toolbox: new Map(), clock, secrecy, pause, onSettled })
      await held.send(await output.then(completedWith, (error: unknown) => failing(held, error, clean)))
      return
    }
    using conduct = new OrderConduct(this.#options, { held, order, agent, secrecy })
    let end: WorkCommand
    try {
      end = await conduct.perform()
    } catch (error) {
      const isTaken = error instanceof ClaimLost || held.signal.aborted
      if (!isTaken || isOver(held)) await this.#salvage(held, conduct, clean)
      end = failing(held, error, clean)
    }
    if (end.type === 'complete') await this.#keepTranscript(held, clean)
    await pause('end.before')
    await held.send(end)
  }

  async forget({ facts }: Run): Promise<void> {
    if (facts.order !== null) await this.#options.workspaces.remove(facts.id)
  }

  /** Keeps for people what there is of a run that failed; what cannot be kept does not hide why it failed. */
  async #salvage(held: HeldRun, conduct: OrderConduct, clean: Clean): Promise<void> {
    const { log } = this.#options
    const { id: runId } = held.run.facts
    for (const keep of [() => conduct.keepUnsealed(), () => this.#keepTranscript(held, clean)]) {
      await keep().catch((error: unknown) =>
        log.error({ runId, err: error }, 'An artifact of a run was not kept.'),
      )
    }
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

  /** The conversation of a work order; a run without tools tells all of it by its events. */
  async #keepTranscript(held: HeldRun, clean: Clean): Promise<void> {
    const { facts, begunStep } = held.run
    if (begunStep === 0) return
    if (!held.signal.aborted) await held.flush()
    const data = transcriptOf(await held.journal(), clean)
    await keepArtifact(this.#options, facts.id, {
      name: 'transcript.jsonl',
      data,
      mediaType: 'application/x-ndjson',
    })
  }
}

const completedWith = (output: JsonValue): WorkCommand => ({
  type: 'complete',
  reason: 'completed',
  output,
  delivery: null,
})

/** The end of a run that an error stands for. Throws the error on where work was told to stop, or it is one of ours. */
function failing(held: HeldRun, error: unknown, clean: Clean): WorkCommand {
  const failure = held.signal.aborted || error instanceof ClaimLost ? null : failureOf(error, held.run)
  if (failure === null) throw error
  const { message, details, ...rest } = failure
  const shown = details === undefined ? {} : { details: cleanJson(details, clean) }
  return { type: 'fail', ...rest, message: clean(message), ...shown }
}

/** The reason of the table that an error stands for; `null` for an error of ours. */
function failureOf(error: unknown, run: Run): Failure | null {
  const stage = stageOf(run)
  if (error instanceof RunFails) return error.failure
  if (error instanceof LimitReached) return { reason: error.reason, stage, message: error.message }
  if (!(error instanceof SourceError) && !(error instanceof DeliveryError)) return null
  const { reason, message, retryable } = error
  return {
    reason,
    stage: error instanceof SourceError && reason.startsWith('source_') ? 'workspace' : stage,
    message,
    retryable,
  }
}
