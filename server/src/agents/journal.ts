import type { JournalEntry } from '../domain/agent.ts'
import { isJsonObject, type JsonValue } from '../domain/json.ts'
import type { RequestedCall, ToolCallId, ToolOutcome } from '../domain/tool-call.ts'

export type StepEntry = Extract<JournalEntry, { kind: 'step' }>

/** The tool that ends an iteration; its `summary` is the output. */
export const FINISH_TOOL = 'finish'

/** Where a journal stands: what a driver does next follows from this and nothing else. */
export type Position =
  | { next: 'call'; step: number; call: RequestedCall }
  | { next: 'ask' }
  | { next: 'finish'; output: JsonValue }

export const stepsOf = (journal: readonly JournalEntry[]): StepEntry[] =>
  journal.filter((entry) => entry.kind === 'step')

export const outcomesOf = (journal: readonly JournalEntry[]): Map<ToolCallId, ToolOutcome> =>
  new Map(journal.flatMap((entry) => (entry.kind === 'tool' ? [[entry.callId, entry.outcome]] : [])))

/**
 * Calls of the last step without an outcome come first. Then an iteration ends with an answer without calls or
 * a `finish` that went well, unless feedback followed it or the step by its own record `goesOn`. Else the agent is asked for its next step.
 */
export function positionOf(
  journal: readonly JournalEntry[],
  goesOn: (step: StepEntry) => boolean = () => false,
): Position {
  const last = journal.findLast((entry) => entry.kind === 'step')
  if (last === undefined) return { next: 'ask' }
  const outcomes = outcomesOf(journal)
  const open = last.calls.find((call) => !outcomes.has(call.id))
  if (open !== undefined) return { next: 'call', step: last.step, call: open }
  const answered = journal.slice(journal.indexOf(last)).some((entry) => entry.kind === 'feedback')
  if (answered) return { next: 'ask' }
  if (goesOn(last)) return { next: 'ask' }
  if (last.calls.length === 0) return { next: 'finish', output: last.text }
  const finish = last.calls.find((call) => call.name === FINISH_TOOL && outcomes.get(call.id)?.ok)
  if (finish === undefined) return { next: 'ask' }
  const summary = isJsonObject(finish.arguments) ? finish.arguments['summary'] : undefined
  return { next: 'finish', output: summary ?? last.text }
}
