import type { AgentDriver, DriverContext, DriverEvent, Script, ScriptStep } from '../domain/agent.ts'
import { GateError } from '../domain/error.ts'
import { isJsonObject } from '../domain/json.ts'
import { NO_TOKENS } from '../domain/money.ts'
import type { RequestedCall } from '../domain/tool-call.ts'
import type { Clock } from '../lib/clock.ts'
import { newId } from '../lib/id.ts'
import { type Ask, type Asked, driveJournal } from './driver-run.ts'
import { stepsOf } from './journal.ts'
import { pause } from './pause.ts'
import { builtInScript, parseScript } from './script.ts'

const MODEL = 'scripted'

/** The script in the input where there is one, else the built-in one. */
export const scriptOfInput = (context: DriverContext): Script =>
  isJsonObject(context.input) && context.input['steps'] !== undefined
    ? parseScript(context.input, '/input')
    : builtInScript(context)

/**
 * Follows a script instead of a model, with the same journal. The k-th recorded step of the run is the k-th of
 * the script, so a second iteration goes on where the first ended; past the end the last text is the output.
 * `scriptOf` is asked before each step, with the journal as it is then.
 */
export function scriptedDriver(
  clock: Clock,
  scriptOf: (context: DriverContext) => Script = scriptOfInput,
): AgentDriver {
  const drive = (context: DriverContext) =>
    driveJournal(context, (question) =>
      askScript(question, { clock, read: () => scriptOf({ ...context, journal: question.journal }) }),
    )
  return { id: 'scripted', asksModel: false, start: drive, resume: drive }
}

async function* askScript(
  { journal, step, signal }: Parameters<Ask>[0],
  { clock, read }: { clock: Clock; read: () => Script },
): AsyncGenerator<DriverEvent, Asked, void> {
  const steps = scriptSteps(read)
  if (steps instanceof GateError) return agentError(steps.message)
  const scripted = steps[stepsOf(journal).length]
  if (scripted === undefined) return { type: 'finished', output: lastText(steps) }
  yield { type: 'step.started', step, model: MODEL, worstCase: NO_TOKENS }
  await pause(clock, scripted.delayMs ?? 0, signal)
  if (signal.aborted) return { type: 'stopped', spent: NO_TOKENS }
  if (scripted.fail) return { type: 'failed', retryable: false, ...scripted.fail }
  if (scripted.text) yield { type: 'text', delta: scripted.text }
  return completed(scripted, step, clock)
}

function scriptSteps(read: () => Script): readonly ScriptStep[] | GateError {
  try {
    return read().steps
  } catch (error) {
    if (error instanceof GateError) return error
    throw error
  }
}

const agentError = (message: string): Asked => ({
  type: 'failed',
  reason: 'agent_error',
  message,
  retryable: false,
})

const lastText = (steps: readonly ScriptStep[]): string =>
  steps.findLast((step) => step.text !== undefined)?.text ?? ''

function completed(
  scripted: ScriptStep,
  step: number,
  clock: Clock,
): DriverEvent & { type: 'step.completed' } {
  const calls = (scripted.calls ?? []).map(
    (call, at): RequestedCall => ({
      id: newId('call', clock.now()),
      providerId: `scripted_${step}_${at}`,
      name: call.tool,
      arguments: call.arguments,
    }),
  )
  return {
    type: 'step.completed',
    step,
    model: MODEL,
    record: null,
    text: scripted.text ?? '',
    calls,
    usage: NO_TOKENS,
    usageReported: true,
    providerRequestId: null,
  }
}
