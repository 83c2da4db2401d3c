import type { CallSummary } from '../domain/command.ts'
import type { Constraints } from '../domain/facts.ts'
import { isJsonObject, type JsonValue } from '../domain/json.ts'
import type { HeldRun } from '../domain/performer.ts'
import type { RequestedCall, ToolErrorCode, ToolExecutor, ToolOutcome } from '../domain/tool-call.ts'
import type { Clock } from '../lib/clock.ts'
import { canonicalJson, sha256 } from '../lib/hash.ts'
import type { Clean } from '../lib/redact.ts'
import { middleOut } from '../lib/text.ts'
import { validateArguments } from '../tools/arguments.ts'
import { askedCall, type Secrecy } from './kept-call.ts'

/** The tools of a run by name. */
export type Toolbox = ReadonlyMap<string, ToolExecutor>

/** The tools a run may use: what its agent brings, less what its constraints take away. */
export function toolboxOf(
  executors: readonly ToolExecutor[],
  { allowTools, denyTools }: Constraints,
): Toolbox {
  const allowed = executors.filter(
    ({ definition: { name } }) => (allowTools?.includes(name) ?? true) && !denyTools.includes(name),
  )
  return new Map(allowed.map((executor) => [executor.definition.name, executor]))
}

const NAME_CHARACTERS = 128
const ARGUMENT_CHARACTERS = 4_096
const PREVIEW_CHARACTERS = 1_024

/** A kept call as its event shows it: long texts are cut, the journal has them whole. */
export function summariseCall(call: RequestedCall, toolbox: Toolbox): CallSummary {
  const whole = JSON.stringify(call.arguments).length <= ARGUMENT_CHARACTERS
  return {
    id: call.id,
    name: shownName(call),
    arguments: whole ? call.arguments : cut(call.arguments),
    argumentsTruncated: !whole,
    effect: toolbox.get(call.name)?.definition.effect ?? null,
  }
}

/** An agent may ask for a tool by any name at all. */
const shownName = ({ name }: RequestedCall): string => name.slice(0, NAME_CHARACTERS)

function cut(value: JsonValue): JsonValue {
  if (typeof value === 'string') return middleOut(value, 512)
  if (Array.isArray(value)) return value.slice(0, 20).map(cut)
  if (!isJsonObject(value)) return value
  return Object.fromEntries(
    Object.entries(value)
      .slice(0, 20)
      .map(([key, member]) => [key, cut(member)]),
  )
}

export interface CallContext {
  held: HeldRun
  toolbox: Toolbox
  clock: Clock
  secrecy: Secrecy
}

/**
 * One requested call, in the order of the contract: name known, arguments against the schema, execution. Each
 * verdict is an event; what is wrong with a call goes back to the agent as a typed error, never to the executor.
 * The executor gets the arguments as they were asked; everything that is stored or shown has no secrets.
 */
export async function runCall(context: CallContext, step: number, call: RequestedCall): Promise<ToolOutcome> {
  const { held, clock, secrecy } = context
  const checked = check(context.toolbox, askedCall(call, secrecy))
  const startedAt = clock.monotonic()
  if ('run' in checked) await begin(context, step, call)
  const outcome = cleaned('run' in checked ? await checked.run(held.signal) : checked.refusal, secrecy.clean)
  held.signal.throwIfAborted()
  const durationMs = Math.round(clock.monotonic() - startedAt)
  const digest = sha256(
    `${call.name}\n${canonicalJson(call.arguments)}\n${outcome.ok}\n${outcome.content}`,
  ).slice(0, 16)
  const preview = middleOut(outcome.content, PREVIEW_CHARACTERS)
  const result = outcome.ok
    ? { ok: true as const, preview }
    : { ok: false as const, code: outcome.code, message: preview }
  const ended = { step, toolCallId: call.id, name: shownName(call), durationMs, digest, result }
  held.defer({ type: 'end_tool', ...ended }, [{ kind: 'tool', step, callId: call.id, outcome }])
  return outcome
}

/** Reading needs no trace before it happens; whoever watches wants to see everything else begin. */
async function begin({ held, toolbox }: CallContext, step: number, call: RequestedCall): Promise<void> {
  const { id: toolCallId, name } = call
  held.defer({ type: 'begin_tool', step, toolCallId, name })
  if (toolbox.get(name)?.definition.effect !== 'read') await held.flush()
}

const WITHHELD =
  'The arguments hold a secret of the gateway, which no tool is given. Do what you were asked without it.'

type Checked =
  | { run: (signal: AbortSignal) => Promise<ToolOutcome> }
  | { refusal: ToolOutcome & { ok: false } }

function check(toolbox: Toolbox, call: RequestedCall): Checked {
  const refuse = (code: ToolErrorCode, content: string): Checked => ({
    refusal: { ok: false, code, content },
  })
  const executor = toolbox.get(call.name)
  if (executor === undefined) {
    const known = [...toolbox.keys()].join(', ') || 'none'
    return refuse('unknown_tool', `There is no tool named ${JSON.stringify(call.name)}. Tools: ${known}.`)
  }
  const checked = validateArguments(executor.definition, call)
  if (!checked.ok) return refuse(checked.code, checked.content)
  if (call.withheld && executor.definition.effect !== 'read') return refuse('not_allowed', WITHHELD)
  return { run: (signal) => executor.execute(checked.arguments, signal) }
}

const cleaned = (outcome: ToolOutcome, clean: Clean): ToolOutcome => ({
  ...outcome,
  content: clean(outcome.content),
})
