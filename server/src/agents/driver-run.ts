import type { DriverContext, DriverEvent, DriverRun, JournalEntry, Keeping } from '../domain/agent.ts'
import { hasTokens } from '../domain/money.ts'
import type { ToolOutcome } from '../domain/tool-call.ts'
import { invariant } from '../lib/invariant.ts'
import { cleanRecord } from './conversation.ts'
import { positionOf, type StepEntry } from './journal.ts'

/** What an agent made of being asked once: a step for the journal, or an end without one. */
export type Asked = StepCompleted | { type: 'finished'; output: DriverOutput } | DriverFailed | DriverStopped

type StepCompleted = Extract<DriverEvent, { type: 'step.completed' }>
type DriverFailed = Extract<DriverEvent, { type: 'failed' }>
type DriverStopped = Extract<DriverEvent, { type: 'stopped' }>
type DriverOutput = Extract<DriverEvent, { type: 'finished' }>['output']

/** One way of asking an agent for its next step. Yields what comes before the step (`step.started`, `text`). */
export type Ask = (question: {
  journal: readonly JournalEntry[]
  step: number
  signal: AbortSignal
}) => AsyncGenerator<DriverEvent, Asked, void>

/**
 * Drives an agent along its journal: outstanding calls, then the next step, until an iteration ends. Every
 * event is yielded and nothing follows from it before the reader asks on.
 */
export const driveJournal = (
  context: DriverContext,
  ask: Ask,
  goesOn?: (step: StepEntry) => boolean,
): DriverRun => new JournalRun(context, ask, goesOn)

class JournalRun implements DriverRun {
  readonly events: AsyncGenerator<DriverEvent, void, void>
  readonly #context: DriverContext
  readonly #ask: Ask
  readonly #goesOn: ((step: StepEntry) => boolean) | undefined
  readonly #stop = new AbortController()
  readonly #follow: () => void
  readonly #outcomes = new Map<string, ToolOutcome>()
  #isAsking = false

  constructor(context: DriverContext, ask: Ask, goesOn: ((step: StepEntry) => boolean) | undefined) {
    this.#context = context
    this.#ask = ask
    this.#goesOn = goesOn
    this.#follow = () => this.#stop.abort(context.signal.reason)
    if (context.signal.aborted) this.#follow()
    else context.signal.addEventListener('abort', this.#follow, { once: true })
    this.events = this.#drive()
  }

  async *#drive(): AsyncGenerator<DriverEvent, void, void> {
    const { keeping, iteration, nextStep } = this.#context
    const { signal } = this.#stop
    const journal = [...this.#context.journal]
    let step = nextStep
    while (!signal.aborted) {
      const position = positionOf(journal, this.#goesOn)
      if (position.next === 'finish') {
        yield { type: 'finished', output: position.output }
        return
      }
      if (position.next === 'call') {
        yield { type: 'tool.requested', step: position.step, call: position.call }
        if (signal.aborted) return
        const callId = position.call.id
        journal.push({ kind: 'tool', step: position.step, callId, outcome: this.#outcomeOf(callId) })
        continue
      }
      this.#isAsking = true
      const asked = yield* this.#ask({ journal, step, signal })
      this.#isAsking = false
      if (asked.type === 'stopped' && !hasTokens(asked.spent)) return
      if (asked.type !== 'step.completed') {
        yield asked
        return
      }
      const kept = keptOf(asked, keeping)
      yield kept
      journal.push(entryOf(kept, iteration))
      step += 1
    }
  }

  #outcomeOf(callId: string): ToolOutcome {
    const outcome = this.#outcomes.get(callId)
    invariant(outcome, `the outcome of ${callId} is submitted before the driver is asked on`)
    this.#outcomes.delete(callId)
    return outcome
  }

  submitToolResult(callId: string, outcome: ToolOutcome): void {
    this.#outcomes.set(callId, outcome)
  }

  async cancel(reason: string): Promise<void> {
    this.#context.signal.removeEventListener('abort', this.#follow)
    if (this.#isAsking) this.#stop.abort(new Error(reason))
    // Waits for the read that is under way, if any, and with it for the model call.
    await this.events.return()
  }
}

const keptOf = (event: StepCompleted, { clean, keepCall }: Keeping): StepCompleted => ({
  ...event,
  record: cleanRecord(event.record, clean),
  text: clean(event.text),
  calls: event.calls.map((call) => keepCall(call)),
})

const entryOf = (event: StepCompleted, iteration: number): StepEntry => ({
  kind: 'step',
  step: event.step,
  iteration,
  record: event.record,
  text: event.text,
  calls: event.calls,
  usage: event.usage,
})
