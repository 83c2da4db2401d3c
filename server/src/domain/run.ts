import type { EventBody, FinalData, GateSummary, RunEvent, RunSummary, Stopped, Usage } from './event.ts'
import type { RunFacts } from './facts.ts'
import type { JsonValue } from './json.ts'
import type { Delivery, PublicError, RunState, Stage, StatusReason, Verification } from './lifecycle.ts'
import { isFinal, STATUS_OF } from './lifecycle.ts'
import { addTokens, creditsCharged, MICRO_PER_CREDIT, priceSeconds } from './money.ts'

/** Where the iteration that is under way stands. */
export interface Iteration {
  n: number
  /** The sealed commit of the iteration; `null` while the agent works. */
  commit: string | null
  changed: boolean
  verdict: 'open' | 'passed' | 'failed' | 'none'
}

/** The fold of a run's events. Everything that changes is under `RunFold`; `facts` never does. */
export interface RunFold {
  state: RunState
  statusReason: StatusReason
  lastSeq: number
  attempt: number
  /** Claims in a row that journaled no new step. */
  strikes: number
  cancelRequestedAt: number | null
  startedAt: number | null
  runningSince: number | null
  runningMs: number
  waitingMs: number
  completedAt: number | null
  usage: Usage
  costMicro: number
  estimated: boolean
  heldMicro: number
  chargedMicro: number
  /** The highest step that was begun, paid for or not. */
  begunStep: number
  /** Ranges of steps that a restored checkpoint forgot, both ends included. */
  forgotten: [number, number][]
  lastDigest: string | null
  identicalCalls: number
  warned: string[]
  /** What the workspace began from. */
  base: { commit: string; branch: string } | null
  iteration: Iteration
  /** The newest sealed iteration: with its bundle another machine can go on from step `step`. */
  sealed: { commit: string; step: number; bundle: string | null } | null
  /** How often each gate failed so far. */
  gateFailures: { [gate: string]: number }
  verification: Verification
  pushed: { branch: string; commit: string } | null
  prUrl: string | null
  text: string | null
  outcome: Outcome | null
}

/** What a final run ended with. */
export interface Outcome {
  output: JsonValue
  outputUrl: string | null
  partialOutput: JsonValue
  error: PublicError | null
  delivery: Delivery | null
  stopped: Stopped | null
}

export interface Run extends RunFold {
  readonly facts: RunFacts
}

/** What every run begins as; its nested values are shared and never changed. */
export const BLANK_FOLD: Readonly<RunFold> = Object.freeze<RunFold>({
  state: 'queued',
  statusReason: 'waiting_for_capacity',
  lastSeq: 0,
  attempt: 0,
  strikes: 0,
  cancelRequestedAt: null,
  startedAt: null,
  runningSince: null,
  runningMs: 0,
  waitingMs: 0,
  completedAt: null,
  usage: { steps: 0, toolCalls: 0, inputTokens: 0, outputTokens: 0, cachedTokens: 0 },
  costMicro: 0,
  estimated: false,
  heldMicro: 0,
  chargedMicro: 0,
  begunStep: 0,
  forgotten: [],
  lastDigest: null,
  identicalCalls: 0,
  warned: [],
  base: null,
  iteration: { n: 0, commit: null, changed: false, verdict: 'open' },
  sealed: null,
  gateFailures: {},
  verification: 'none',
  pushed: null,
  prUrl: null,
  text: null,
  outcome: null,
})

/** A run before its first event. */
export const unborn = (facts: RunFacts): Run => withFold(facts, BLANK_FOLD)

/** A run of this fold. All are made here and so, with every field written out, have one hidden class (bench: three-steps). */
export const withFold = (facts: RunFacts, run: Readonly<RunFold>): Run => ({
  facts,
  state: run.state,
  statusReason: run.statusReason,
  lastSeq: run.lastSeq,
  attempt: run.attempt,
  strikes: run.strikes,
  cancelRequestedAt: run.cancelRequestedAt,
  startedAt: run.startedAt,
  runningSince: run.runningSince,
  runningMs: run.runningMs,
  waitingMs: run.waitingMs,
  completedAt: run.completedAt,
  usage: run.usage,
  costMicro: run.costMicro,
  estimated: run.estimated,
  heldMicro: run.heldMicro,
  chargedMicro: run.chargedMicro,
  begunStep: run.begunStep,
  forgotten: run.forgotten,
  lastDigest: run.lastDigest,
  identicalCalls: run.identicalCalls,
  warned: run.warned,
  base: run.base,
  iteration: run.iteration,
  sealed: run.sealed,
  gateFailures: run.gateFailures,
  verification: run.verification,
  pushed: run.pushed,
  prUrl: run.prUrl,
  text: run.text,
  outcome: run.outcome,
})

/** The run after one more event. Reads every event version ever written. */
export const apply = (run: Run, event: RunEvent): Run => applyAll(run, [event])

/**
 * The run after several events; `after` sees the run as each of them left it, and keeps nothing of it: there is one
 * copy for all.
 */
export function applyAll(
  run: Run,
  events: readonly RunEvent[],
  after: (run: Run, event: RunEvent) => void = () => undefined,
): Run {
  const next = withFold(run.facts, run)
  for (const event of events) {
    Object.assign(next, changeOf(next, event))
    next.lastSeq = event.seq
    after(next, event)
  }
  return next
}

function changeOf(run: Run, event: RunEvent): Partial<RunFold> {
  switch (event.type) {
    case 'run.created':
      return { heldMicro: event.data.heldMicro }
    case 'run.started':
      return claimed(run, event.data.attempt, event.at, 1)
    case 'run.resumed':
      return {
        ...claimed(run, event.data.attempt, event.at, event.data.cause === 'handed_back' ? 0 : 1),
        forgotten:
          event.data.fromStep < run.begunStep
            ? [...run.forgotten, [event.data.fromStep + 1, run.begunStep]]
            : run.forgotten,
      }
    case 'run.cancel_requested':
      return { cancelRequestedAt: event.at }
    case 'run.limit_warning':
      return { warned: [...run.warned, event.data.limit] }
    case 'run.completed':
    case 'run.failed':
    case 'run.canceled':
      return ended(run, event.data, event.at)
    case 'step.started':
      return { begunStep: event.data.step, heldMicro: event.data.heldMicro }
    case 'step.completed':
      return {
        strikes: 0,
        usage: {
          steps: run.usage.steps + 1,
          toolCalls: run.usage.toolCalls + event.data.toolCalls,
          ...addTokens(run.usage, event.data.usage),
        },
        costMicro: run.costMicro + event.data.costMicro,
        estimated: run.estimated || event.data.estimated,
      }
    case 'message.completed':
      return { text: event.data.text }
    case 'tool.completed':
    case 'tool.failed':
      return {
        lastDigest: event.data.digest,
        identicalCalls: event.data.digest === run.lastDigest ? run.identicalCalls + 1 : 1,
      }
    case 'iteration.started':
      return { iteration: { n: event.data.iteration, commit: null, changed: false, verdict: 'open' } }
    case 'iteration.completed':
      return {
        iteration: { ...run.iteration, commit: event.data.commit, changed: event.data.changed },
        sealed: { commit: event.data.commit, step: run.begunStep, bundle: event.data.bundle },
      }
    case 'verification.passed':
      return {
        verification: event.data.verification,
        iteration: { ...run.iteration, verdict: event.data.verification === 'none' ? 'none' : 'passed' },
      }
    case 'verification.failed':
      return {
        verification: 'failed',
        iteration: { ...run.iteration, verdict: 'failed' },
        gateFailures: countFailures(run.gateFailures, event.data.gates),
      }
    case 'delivery.pushed':
      return { pushed: { branch: event.data.branch, commit: event.data.commit } }
    case 'delivery.pull_request':
      return { prUrl: event.data.prUrl }
    case 'workspace.ready':
      return { base: { commit: event.data.commit, branch: event.data.branch } }
    case 'tool.requested':
    case 'tool.started':
    case 'verification.started':
      return {}
  }
}

function countFailures(
  before: RunFold['gateFailures'],
  gates: readonly GateSummary[],
): RunFold['gateFailures'] {
  const failing = gates.filter(({ outcome }) => outcome !== 'passed' && outcome !== 'skipped')
  // A gate may be called `__proto__`.
  const countOf = (name: string): number => (Object.hasOwn(before, name) ? (before[name] ?? 0) : 0)
  return { ...before, ...Object.fromEntries(failing.map(({ name }) => [name, countOf(name) + 1])) }
}

function claimed(run: Run, attempt: number, at: number, strike: number): Partial<RunFold> {
  return {
    state: 'running',
    statusReason: 'working',
    attempt,
    strikes: run.strikes + strike,
    startedAt: run.startedAt ?? at,
    runningSince: run.runningSince ?? at,
  }
}

function ended(run: Run, data: FinalData, at: number): Partial<RunFold> {
  return {
    state: data.state,
    statusReason: data.statusReason,
    completedAt: at,
    runningMs: runningMs(run, at),
    runningSince: null,
    heldMicro: 0,
    chargedMicro: data.chargedMicro,
    verification: data.verification,
    outcome: {
      output: data.output,
      outputUrl: data.outputUrl ?? null,
      partialOutput: data.partialOutput ?? null,
      error: data.error,
      delivery: data.delivery,
      stopped: data.stopped ?? null,
    },
  }
}

/** Milliseconds spent in `running` so far. */
export const runningMs = (run: Run, at: number): number =>
  run.runningMs + (run.runningSince === null ? 0 : Math.max(0, at - run.runningSince))

/** What the run has cost so far, in micro-credits, minutes included. */
export function costSoFar(run: Run, at: number): number {
  const { prices } = run.facts
  return prices === null ? 0 : run.costMicro + priceSeconds(prices, runningMs(run, at))
}

/** What a run that ends now is charged: whole credits, never more than it holds (invariant 6). */
export const chargeAt = (run: Run, at: number): number =>
  Math.min(creditsCharged(costSoFar(run, at)) * MICRO_PER_CREDIT, run.heldMicro)

/** Whether a journaled step still counts, or a restored checkpoint forgot it. */
export const isForgotten = (run: RunFold, step: number): boolean =>
  run.forgotten.some(([from, to]) => step >= from && step <= to)

/** The earliest moment at which `tick` may change this run, or `null`. */
export function dueAt(run: Run): number | null {
  if (isFinal(run.state)) return null
  if (run.state === 'queued') return queueDeadline(run)
  const deadline = timeDeadline(run)
  return deadline === null ? null : deadline + STOPPING_MS
}

export const queueDeadline = ({ facts }: Run): number | null =>
  facts.constraints.maxQueueSeconds === null
    ? null
    : facts.createdAt + facts.constraints.maxQueueSeconds * 1000

/** When work on the run must stop, which its holder sees to; `null` while nothing is at work. */
export const timeDeadline = ({ facts, runningSince, runningMs: before }: Run): number | null =>
  runningSince === null ? null : runningSince + facts.constraints.maxDurationSeconds * 1000 - before

/** Time for a holder to stop, keep what there is and say so; then the run ends without its word. */
const STOPPING_MS = 60_000

/** The part of the work that is under way, or comes next. */
export function stageOf({ facts, base, iteration }: Run): Stage {
  if (facts.order === null) return 'agent'
  if (base === null) return 'workspace'
  if (iteration.commit === null || iteration.verdict === 'failed') return 'agent'
  return iteration.verdict === 'open' ? 'verification' : 'delivery'
}

/** The part of a `run.*` event that says how the run stands. */
export function summarise(run: Run): RunSummary {
  const { facts, outcome } = run
  return {
    workOrderId: facts.order?.id ?? null,
    state: run.state,
    status: STATUS_OF[run.state],
    statusReason: run.statusReason,
    prUrl: run.prUrl,
    verification: run.verification,
    output: outcome?.output ?? null,
    ...(outcome?.outputUrl ? { outputUrl: outcome.outputUrl } : {}),
    error: outcome?.error ?? null,
    usage: run.usage,
    metadata: facts.metadata,
    correlationId: facts.correlationId,
  }
}

/** The public data of an event: its own fields, the summary for `run.*`, and what every event carries. */
export function publicData(run: Run, event: EventBody): { [key: string]: unknown } {
  const summary = event.type.startsWith('run.') ? summarise(run) : undefined
  return { runId: run.facts.id, ...summary, ...event.data, tenantContext: run.facts.tenantContext }
}
