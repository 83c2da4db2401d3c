/** Runs, commands and histories for tests of the domain. */
import fc from 'fast-check'
import { storableJson } from '../lib/text.ts'
import { type Command, decide, isRefusal, type Refusal, type WorkCommand } from './command.ts'
import type { Envelope, RunEvent, SetupSummary } from './event.ts'
import { DEFAULT_CONSTRAINTS, type RunFacts } from './facts.ts'
import type { PriceBook } from './money.ts'
import { apply, publicData, type Run, unborn } from './run.ts'

export const AT = Date.UTC(2026, 0, 1)

export const PRICES: PriceBook = {
  models: { 'openai/listed': { input: 100_000, output: 400_000, cached: 10_000 } },
  unpriced: { input: 500_000, output: 2_000_000, cached: 50_000 },
  perMinute: 100_000,
}

export function someFacts(overrides: Partial<RunFacts> = {}): RunFacts {
  return {
    id: 'run_00000000000000000000000001',
    organizationId: 'org_00000000000000000000000001',
    mode: 'live',
    tenantId: 'acme',
    agent: { id: 'agt_scripted', slug: 'scripted', version: '1', kind: 'scripted' },
    models: [],
    input: 'hello',
    order: null,
    constraints: DEFAULT_CONSTRAINTS,
    reserveMicro: 50_000_000,
    prices: PRICES,
    webhookUrl: null,
    script: null,
    metadata: { a: null },
    tenantContext: { tenantId: 'acme' },
    correlationId: 'c-1',
    projectId: null,
    purpose: null,
    requestId: 'req_1',
    traceparent: null,
    createdBy: { type: 'key', id: 'key_1' },
    retryOf: null,
    createdAt: AT,
    ...overrides,
  }
}

/** What one command came to. */
export interface Turn {
  command: Command
  before: Run
  after: Run
  events: RunEvent[]
  refusal: Refusal | null
}

export function take(run: Run, command: Command): Turn {
  const decision = decide(run, command)
  if (isRefusal(decision)) return { command, before: run, after: run, events: [], refusal: decision }
  const events = decision.events.map((body, i) => ({ ...body, seq: run.lastSeq + i + 1, at: command.at }))
  return { command, before: run, after: events.reduce<Run>(apply, run), events, refusal: null }
}

/** A run that has lived through these commands, each a second after the one before. */
export function lived(facts: RunFacts, commands: readonly Timeless<Command>[]): Run {
  return commands.reduce<Run>(
    (run, command, i) => take(run, { ...command, at: AT + (i + 1) * 1000 }).after,
    take(unborn(facts), { type: 'create', at: AT }).after,
  )
}

type Timeless<C> = C extends unknown ? Omit<C, 'at'> : never

/** An event as the log keeps it: serialised with the run as it was after it, and read back. */
export function stored(after: Run, event: RunEvent): Envelope {
  const { id, mode } = after.facts
  return JSON.parse(
    storableJson({
      id: `evt_${event.seq}`,
      type: event.type,
      createdAt: new Date(event.at).toISOString(),
      mode,
      runId: id,
      seq: event.seq,
      data: publicData(after, event),
    }),
  )
}

const usage = fc.record({
  inputTokens: fc.nat(50_000),
  outputTokens: fc.nat(5_000),
  cachedTokens: fc.nat(10_000),
})
const step = fc.integer({ min: 1, max: 8 })
const model = fc.constantFrom('openai/listed', 'nobody/knows')
/** With what PostgreSQL cannot store: NUL and half a surrogate pair. */
const text = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 20 }),
  fc.constantFrom('a\u0000b', 'a\ud83d', ''),
)
const hash = fc.constantFrom('a1', 'b2', 'c3')
const iteration = fc.integer({ min: 1, max: 3 })
const gates = fc.array(
  fc.record({
    name: fc.constantFrom('lint', 'test', '__proto__'),
    level: fc.constant('L1'),
    outcome: fc.constantFrom('passed', 'failed', 'skipped', 'timed_out'),
    summary: text,
    durationMs: fc.nat(1000),
  }),
  { maxLength: 3 },
)
const call = fc.record({
  id: fc.constantFrom('call_1', 'call_2'),
  name: fc.constantFrom('read_file', 'write_file'),
  arguments: fc.jsonValue({ maxDepth: 2 }).map((value) => JSON.parse(JSON.stringify(value))),
  argumentsTruncated: fc.boolean(),
  effect: fc.constantFrom('read' as const, 'workspace' as const, null),
})

/** What a holder may report, in no order that makes sense: `decide` and `apply` must bear it. */
const work: fc.Arbitrary<WorkCommand> = fc.oneof(
  fc.record({ type: fc.constant('begin_step' as const), step, model, worstCase: usage }),
  fc.record({
    type: fc.constant('end_step' as const),
    step,
    model,
    usage,
    usageReported: fc.boolean(),
    text,
    calls: fc.array(call, { maxLength: 2 }),
  }),
  fc.record({
    type: fc.constant('begin_tool' as const),
    step,
    toolCallId: fc.constant('call_1'),
    name: fc.constant('read_file'),
  }),
  fc.record({
    type: fc.constant('end_tool' as const),
    step,
    toolCallId: fc.constant('call_1'),
    name: fc.constant('read_file'),
    durationMs: fc.nat(1000),
    digest: hash,
    result: fc.oneof(
      fc.record({ ok: fc.constant(true as const), preview: text }),
      fc.record({ ok: fc.constant(false as const), code: fc.constant('failed' as const), message: text }),
    ),
  }),
  fc.record({
    type: fc.constant('workspace_ready' as const),
    repository: fc.constant('https://git.example.com/a'),
    branch: fc.constant('main'),
    commit: hash,
    jail: fc.constant('bubblewrap'),
    setup: fc.constant<SetupSummary[]>([]),
  }),
  fc.record({ type: fc.constant('begin_iteration' as const), iteration }),
  fc.record({
    type: fc.constant('end_iteration' as const),
    iteration,
    commit: hash,
    tree: hash,
    changed: fc.boolean(),
    bundle: fc.option(hash),
  }),
  fc.record({
    type: fc.constant('begin_verification' as const),
    iteration,
    gates: fc.array(text, { maxLength: 2 }),
  }),
  fc.record({
    type: fc.constant('pass_verification' as const),
    iteration,
    gates,
    verification: fc.constantFrom('passed' as const, 'none' as const),
  }),
  fc.record({ type: fc.constant('fail_verification' as const), iteration, gates, feedback: text }),
  fc.record({
    type: fc.constant('pushed' as const),
    branch: text,
    commit: hash,
    repository: fc.constant('r'),
  }),
  fc.record({
    type: fc.constant('pull_request' as const),
    prUrl: fc.constant('https://git.example.com/a/pull/1'),
    number: fc.option(fc.nat(9)),
    branch: text,
    draft: fc.boolean(),
  }),
)

const end: fc.Arbitrary<WorkCommand> = fc.oneof(
  fc.record({
    type: fc.constant('complete' as const),
    reason: fc.constantFrom('completed' as const, 'no_changes' as const),
    output: fc.jsonValue({ maxDepth: 2 }).map((value) => JSON.parse(JSON.stringify(value))),
    delivery: fc.constantFrom(null, { mode: 'none' as const, reason: 'no_changes' }),
  }),
  fc.record({
    type: fc.constant('fail' as const),
    reason: fc.constantFrom('agent_error' as const, 'limit_credits' as const, 'base_moved' as const),
    stage: fc.constantFrom('agent' as const, 'delivery' as const),
    message: text,
  }),
  fc.record({ type: fc.constant('stopped' as const), how: fc.constantFrom('agreed', 'killed') }),
)

const control: fc.Arbitrary<Timeless<Command>> = fc.oneof(
  fc.record({
    type: fc.constant('claim' as const),
    cause: fc.constantFrom('worker_lost' as const, 'handed_back' as const, null),
    fromStep: fc.nat(8),
  }),
  fc.record({ type: fc.constant('cancel' as const), by: fc.constant('key_1') }),
  fc.constant({ type: 'tick' as const }),
  fc.constant({ type: 'hand_back' as const }),
)

/** Constraints tight enough to bind within a short history. */
export const anyFacts: fc.Arbitrary<RunFacts> = fc
  .record({
    maxSteps: fc.integer({ min: 1, max: 8 }),
    maxToolCalls: fc.integer({ min: 1, max: 8 }),
    maxTokens: fc.option(fc.integer({ min: 1, max: 200_000 })),
    maxCredits: fc.option(fc.integer({ min: 1, max: 100 })),
    maxDurationSeconds: fc.integer({ min: 1, max: 600 }),
    maxIdenticalCalls: fc.integer({ min: 1, max: 3 }),
    maxQueueSeconds: fc.option(fc.integer({ min: 1, max: 600 })),
  })
  .chain((caps) =>
    fc
      .record({
        reserve: fc.integer({ min: 0, max: 50 }),
        isLive: fc.boolean(),
      })
      .map(({ reserve, isLive }) =>
        someFacts({
          constraints: { ...DEFAULT_CONSTRAINTS, ...caps },
          mode: isLive ? 'live' : 'test',
          prices: isLive ? PRICES : null,
          reserveMicro: isLive ? reserve * 1_000_000 : 0,
        }),
      ),
  )

const CLAIM = { type: 'claim' as const, cause: null }

/** Any history: a create, and then whatever happens, each so many milliseconds after the one before. */
export const anyHistory: fc.Arbitrary<Turn[]> = fc
  .tuple(
    anyFacts,
    fc.constantFrom<Timeless<Command>[]>(CLAIM, CLAIM, CLAIM, { type: 'tick' }),
    fc.array(
      fc.tuple(
        fc.oneof(
          { weight: 6, arbitrary: work },
          { weight: 3, arbitrary: control },
          { weight: 1, arbitrary: end },
        ),
        fc.nat(120_000),
      ),
      { maxLength: 40 },
    ),
  )
  .map(([facts, first, commands]) => {
    const turns = [take(unborn(facts), { type: 'create', at: AT })]
    let at = AT
    let run = turns[0]?.after ?? unborn(facts)
    for (const [command, ms] of [[first, 1] as const, ...commands]) {
      at += ms
      const turn = take(run, { ...command, at })
      turns.push(turn)
      run = turn.after
    }
    return turns
  })
