/**
 * The least that makes a run of three steps durable: node:http, the flushers of the engine and the statements of
 * storage, no authentication, validation, decisions, streams or claims. A request copies the rows of a run that a
 * gateway has made, with new ids, and writes them in four commits, one after the other. Ends with its parent.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { scopesOf } from '../server/src/domain/fairness.ts'
import { Flushers } from '../server/src/engine/flushers.ts'
import { systemClock } from '../server/src/lib/clock.ts'
import { newId, randomInt64 } from '../server/src/lib/id.ts'
import type { CommitRow } from '../server/src/storage/commit-row.ts'
import { openDatabase } from '../server/src/storage/database.ts'
import type { RunRows } from './run-rows.ts'

/** What the bench sends when the server has started. */
export interface FloorTask {
  databaseUrl: string
  rows: RunRows
  /** The body of a gateway's answer about that run. */
  answer: string
}

const CAP = 100_000
const DURATION_MS = 30 * 60_000

process.once('disconnect', () => process.exit(0))
process.once('message', (task: FloorTask) => void serve(task))

async function serve({ databaseUrl, rows, answer }: FloorTask): Promise<void> {
  const database = await openDatabase(databaseUrl, { maxReaders: 1, statementTimeoutMs: 0 })
  const flushers = new Flushers({
    database,
    epoch: 1,
    clock: systemClock,
    onBatch: () => undefined,
    pause: async () => undefined,
  })
  const decisions = fourDecisions(rows)
  const write = async (): Promise<string> => {
    const id = newId('run', systemClock.now())
    const claim = newId('clm', systemClock.now())
    for (const decision of decisions) {
      const verdict = await flushers.submit(rowOf(rows, decision, { id, claim }))
      if (verdict !== 'applied') throw new Error(`A row was not applied: ${JSON.stringify(verdict)}`)
    }
    return answer.replace(rows.run.id, id)
  }
  const server = createServer((request, response) => {
    request.resume().once('end', () => {
      write().then(
        (body) => response.writeHead(201, { 'content-type': 'application/json' }).end(body),
        (error: unknown) => response.writeHead(500).end(String(error)),
      )
    })
  })
  server.listen(0, '127.0.0.1', () => {
    const { port } = server.address() as AddressInfo // of a TCP server
    process.send?.(`http://127.0.0.1:${port}`)
  })
}

interface Decision {
  oldSeq: number
  newSeq: number
  events: string
  journal: CommitRow['journal']
  isFirst: boolean
  isLast: boolean
}

/** Birth and claim, and one decision per step; what a tool came to is written with the step after it. */
function fourDecisions({ packs, steps }: RunRows): Decision[] {
  const decisions: Decision[] = []
  let open: RunRows['packs'] = []
  for (const pack of packs) {
    open.push(pack)
    const isWhole = decisions.length === 0 || pack.events.includes('"type":"step.completed"')
    if (!isWhole) continue
    const events = open.map((each) => each.events).join('\n')
    decisions.push({
      oldSeq: (open[0]?.first_seq ?? 1) - 1,
      newSeq: pack.last_seq,
      events,
      journal: steps.filter((entry) => isOf(entry, events)),
      isFirst: decisions.length === 0,
      isLast: pack === packs.at(-1),
    })
    open = []
  }
  if (decisions.length !== 4 || !decisions.at(-1)?.isLast)
    throw new Error('A three-step run is four decisions.')
  return decisions
}

/** Whether a journal entry was written with these events. */
function isOf({ n, part, kind }: RunRows['steps'][number], events: string): boolean {
  if (kind === 'step')
    return events.includes(`"type":"step.completed"`) && events.includes(`"step":${n},"iter`)
  const callId = part.slice(part.indexOf(':') + 1)
  return events
    .split('\n')
    .some((line) => /"type":"tool\.(failed|completed)"/.test(line) && line.includes(callId))
}

function rowOf(rows: RunRows, decision: Decision, { id, claim }: { id: string; claim: string }): CommitRow {
  const { run, facts, outcome } = rows
  const { organization_id: organizationId, mode, tenant_id: tenantId, agent } = run
  const { isFirst, isLast } = decision
  const own = (text: string): string => text.replaceAll(run.id, id)
  const now = systemClock.now()
  const scopes = isFirst || isLast ? scopesOf({ organizationId, mode, tenantId, agent }) : []
  const lane = { organizationId, mode, tenantId, agent, queued: 0, virtualTime: 0 }
  return {
    runId: id,
    commitId: randomInt64(),
    oldSeq: decision.oldSeq,
    newSeq: decision.newSeq,
    at: new Date(now),
    expectedClaim: isFirst ? null : claim,
    state: isLast ? run.state : 'running',
    statusReason: isLast ? run.status_reason : 'working',
    claim: isLast ? null : claim,
    workerId: isLast ? null : 'wrk_floor',
    handedBack: false,
    dueAt: isLast ? null : new Date(now + DURATION_MS),
    fold: own(run.fold),
    events: own(decision.events),
    blobHash: null,
    outcome: isLast ? outcome : null,
    birth: isFirst
      ? { organizationId, mode, tenantId, agent, workOrderId: null, facts: own(facts), idempotency: null }
      : null,
    journal: decision.journal,
    deliveries: [],
    ...moneyOf(rows, decision),
    lane: scopes.length === 0 ? null : { ...lane, running: isFirst ? 1 : -1, advance: isFirst ? 1 : 0 },
    capacity: scopes.map(({ key }) => ({ scope: key, delta: isFirst ? 1 : -1, limit: CAP })),
  }
}

function moneyOf(rows: RunRows, { isFirst, isLast }: Decision): Pick<CommitRow, 'ledger' | 'money'> {
  const { organization_id: organizationId, tenant_id: tenantId } = rows.run
  const kept = rows.ledger.filter(({ kind }) => (kind === 'reserve' ? isFirst : isLast))
  const sum = (wanted: string): number =>
    rows.ledger.reduce((micro, entry) => micro + (entry.kind === wanted ? entry.micro : 0), 0)
  const held = sum('reserve')
  if (kept.length === 0) return { ledger: [], money: null }
  return {
    ledger: kept.map(({ kind, micro }) => ({
      id: newId('txn', systemClock.now()),
      kind,
      organizationId,
      tenantId,
      micro,
    })),
    money: { organizationId, reservedMicro: isFirst ? held : -held, spentMicro: isFirst ? 0 : sum('deduct') },
  }
}
