import type { JournalEntry } from '../domain/agent.ts'
import { type Command, decide, isRefusal, type Refusal } from '../domain/command.ts'
import { numbered, type RunEvent } from '../domain/event.ts'
import type { RunFacts } from '../domain/facts.ts'
import { type Scope, scopesOf } from '../domain/fairness.ts'
import { packFold } from '../domain/fold.ts'
import { isFinal, type RunState } from '../domain/lifecycle.ts'
import { applyAll, dueAt, publicData, type Run } from '../domain/run.ts'
import { toIso } from '../lib/clock.ts'
import { newId, randomInt64 } from '../lib/id.ts'
import { storableJson } from '../lib/text.ts'
import type {
  CapacityChange,
  CommitRow,
  DeliveryRow,
  JournalRow,
  LaneChange,
  LedgerRow,
} from '../storage/commit-row.ts'

/** An event as it stands in the log and goes to every reader: its envelope as one line of JSON. */
export interface Line {
  seq: number
  id: string
  type: string
  text: string
}

/** What one command came to. `run` is the run after it. */
export interface Step {
  run: Run
  lines: Line[]
  refusal: Refusal | null
}

/** Decides, applies and serialises, each event with the run as it was after it. */
export function step(run: Run, command: Command): Step {
  const decision = decide(run, command)
  if (isRefusal(decision)) return { run, lines: [], refusal: decision }
  if (decision.events.length === 0) return { run, lines: [], refusal: null }
  const events = decision.events.map((body, i) => numbered(body, run.lastSeq + i + 1, command.at))
  const lines: Line[] = []
  const after = applyAll(run, events, (each, event) => lines.push(lineOf(each, event)))
  return { run: after, lines, refusal: null }
}

/** The envelope's own fields need no escaping; only what the event says goes through the serialiser. */
function lineOf(run: Run, event: RunEvent): Line {
  const id = newId('evt', event.at)
  const { seq, type } = event
  const { mode, id: runId } = run.facts
  const head = `{"id":"${id}","type":"${type}","createdAt":"${toIso(event.at)}","mode":"${mode}","runId":"${runId}"`
  return { seq, id, type, text: `${head},"seq":${seq},"data":${storableJson(publicData(run, event))}}` }
}

/**
 * How many runs may be at work in a scope at once; `NO_CAP` where nothing limits them. Tenants have one cap for all, which is
 * asked for with an empty key, too.
 */
export type CapOf = (scope: Scope) => number

/** The largest count that storage takes. */
export const NO_CAP = 2 ** 31 - 1

export interface Change {
  before: Run
  after: Run
  lines: readonly Line[]
  at: number
  expectedClaim: string | null
  holder: { claim: string | null; workerId: string | null; handedBack: boolean }
  journal: readonly JournalEntry[]
  birth: CommitRow['birth']
  virtualTime: number
  capOf: CapOf
}

/** All that a decision writes, derived from the run before and after it. */
export function commitRow(change: Change): CommitRow {
  const { before, after, lines, at } = change
  const final = isFinal(after.state)
  const due = dueAt(after)
  return {
    runId: after.facts.id,
    // Tells a batch that is sent again from another decision at the same place.
    commitId: randomInt64(),
    oldSeq: before.lastSeq,
    newSeq: after.lastSeq,
    at: new Date(at),
    expectedClaim: change.expectedClaim,
    state: after.state,
    statusReason: after.statusReason,
    claim: final ? null : change.holder.claim,
    workerId: final ? null : change.holder.workerId,
    handedBack: !final && change.holder.handedBack,
    dueAt: due === null ? null : new Date(due),
    fold: packFold(after),
    events: lines.map(({ text }) => text).join('\n'),
    blobHash: null,
    outcome: final ? storableJson(after.outcome) : null,
    birth: change.birth,
    journal: change.journal.map(journalRow),
    deliveries: deliveriesOf(after, lines, at),
    ...moneyOf(before, after, at),
    lane: laneOf(change),
    capacity: capacityOf(change),
  }
}

/** Parts sort as things happen within a step: its answer, its tools' outcomes, the feedback that followed. */
function journalRow(entry: JournalEntry): JournalRow {
  const record = storableJson(entry)
  switch (entry.kind) {
    case 'step':
      return { n: entry.step, part: '0', kind: 'step', record }
    case 'tool':
      return { n: entry.step, part: `1:${entry.callId}`, kind: 'tool', record }
    case 'feedback':
      return {
        n: entry.step,
        part: `2:${String(entry.iteration).padStart(3, '0')}`,
        kind: 'feedback',
        record,
      }
  }
}

/** A receiver named by the order hears how the run goes, not each of its steps. */
function deliveriesOf(run: Run, lines: readonly Line[], at: number): DeliveryRow[] {
  const { webhookUrl: url, organizationId, mode, tenantId } = run.facts
  if (url === null) return []
  return lines
    .filter(({ type }) => type.startsWith('run.'))
    .map(({ id, type, seq }) => ({
      id: newId('dlv', at),
      eventId: id,
      eventType: type,
      seq,
      url,
      organizationId,
      mode,
      tenantId,
    }))
}

/** Holds and charges are the difference that a decision makes to the run's own money (invariant 6). */
function moneyOf(before: Run, after: Run, at: number): Pick<CommitRow, 'ledger' | 'money'> {
  const reservedMicro = after.heldMicro - before.heldMicro
  const spentMicro = after.chargedMicro - before.chargedMicro
  if (reservedMicro === 0 && spentMicro === 0) return { ledger: [], money: null }
  const { organizationId, tenantId } = after.facts
  const entry = (kind: LedgerRow['kind'], micro: number): LedgerRow[] =>
    micro > 0 ? [{ id: newId('txn', at), kind, organizationId, tenantId, micro }] : []
  return {
    ledger: [
      ...entry('reserve', reservedMicro),
      ...entry('deduct', spentMicro),
      ...entry('release', -reservedMicro - spentMicro),
    ],
    money: { organizationId, reservedMicro, spentMicro },
  }
}

const countsAs = (state: RunState | null, counted: RunState): number => (state === counted ? 1 : 0)

function laneOf({ before, after, virtualTime, birth }: Change): LaneChange | null {
  const from = birth === null ? before.state : null
  const queued = countsAs(after.state, 'queued') - countsAs(from, 'queued')
  const running = countsAs(after.state, 'running') - countsAs(from, 'running')
  if (queued === 0 && running === 0) return null
  const { organizationId, mode, tenantId } = after.facts
  const advance = running > 0 ? 1 : 0
  return {
    organizationId,
    mode,
    tenantId,
    agent: after.facts.agent.slug,
    queued,
    running,
    advance,
    virtualTime,
  }
}

function capacityOf({ before, after, birth, capOf }: Change): CapacityChange[] {
  const from = birth === null ? before.state : null
  const delta = countsAs(after.state, 'running') - countsAs(from, 'running')
  if (delta === 0) return []
  return scopesOf(placeOf(after.facts)).map((scope) => ({
    scope: scope.key,
    delta: delta > 0 ? 1 : -1,
    limit: capOf(scope),
  }))
}

/** Where a run queues. */
export const placeOf = ({ organizationId, mode, tenantId, agent }: RunFacts) => ({
  organizationId,
  mode,
  tenantId,
  agent: agent.slug,
})
