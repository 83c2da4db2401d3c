import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { provideTestDatabase } from '../../test/harness/postgres.ts'
import { WRITER_SETTINGS } from './commit.ts'
import type { CommitRow } from './commit-row.ts'
import { statementFor } from './commit-statement.ts'
import { type Database, type DedicatedConnection, openDatabase } from './database.ts'

let database: Database
let writer: DedicatedConnection
beforeAll(async () => {
  database = await openDatabase(await provideTestDatabase(), { maxReaders: 1, statementTimeoutMs: 0 })
  writer = await database.connect(WRITER_SETTINGS)
})
afterAll(() => database.close())

const LANE = { organizationId: 'org_1', mode: 'live', tenantId: '', agent: 'coder' }

const step: CommitRow = {
  runId: 'run_1',
  commitId: 1n,
  oldSeq: 2,
  newSeq: 3,
  at: new Date(0),
  expectedClaim: 'clm_1',
  state: 'running',
  statusReason: 'working',
  claim: 'clm_1',
  workerId: 'wrk_1',
  handedBack: false,
  dueAt: null,
  fold: '{}',
  events: '{}',
  blobHash: null,
  outcome: null,
  birth: null,
  journal: [],
  deliveries: [],
  ledger: [],
  money: null,
  lane: null,
  capacity: [],
}

const birth = { ...LANE, workOrderId: null, facts: '{}', idempotency: null }
const key = { route: 'POST /v1/runs', key: 'k', bodyHash: 'h', tenantId: '' }
const delivery = {
  id: 'dlv_1',
  eventId: 'evt_1',
  eventType: 'run.completed',
  seq: 3,
  url: 'https://a.test',
  ...LANE,
}

/** Whether a decision creates a run, and how. */
const KINDS: readonly CommitRow[] = [
  step,
  ...[
    birth,
    { ...birth, idempotency: key },
    { ...birth, workOrderId: 'wo_1' },
    { ...birth, workOrderId: 'wo_1', idempotency: key },
  ].map((each) => ({ ...step, runId: 'run_2', oldSeq: 0, birth: each })),
]

/** What a row may have besides, each by itself. */
const EXTRAS: readonly Partial<CommitRow>[] = [
  { outcome: '{}' },
  { journal: [{ n: 1, part: '0', kind: 'step', record: '{}' }] },
  { deliveries: [delivery] },
  { money: { organizationId: 'org_1', reservedMicro: 1, spentMicro: 0 } },
  { capacity: [{ scope: 'org_1', delta: 1, limit: 1 }] },
  { lane: { ...LANE, queued: 0, running: 1, advance: 1, virtualTime: 0 } },
]

const decisions = KINDS.flatMap((kind) =>
  Array.from(
    { length: 2 ** EXTRAS.length },
    (_, chosen): CommitRow => Object.assign({}, kind, ...EXTRAS.filter((_extra, i) => (chosen >> i) & 1)),
  ),
)

/** Every decision alone, and together with a step. */
const batches = decisions.flatMap((decision) => [[decision], [decision, { ...step, runId: 'run_3' }]])

const wholes = (of: readonly CommitRow[][]): Map<string, string> =>
  new Map(of.map((batch) => [statementFor(1, batch).name, statementFor(1, batch).text]))

describe('the statement of a batch', () => {
  test('is made for what a decision needs that goes alone; other batches share two', () => {
    const [alone, together] = [1, 2].map((size) => wholes(batches.filter(({ length }) => length === size)))
    expect(alone?.size).toBe(5 * 64)
    expect(new Set(alone?.values()).size).toBe(5 * 64)
    expect(together?.size).toBe(2)
  })

  test('is one that PostgreSQL plans with indexes alone', async () => {
    const all = new Map(batches.map((batch) => [statementFor(1, batch).name, statementFor(1, batch)]))
    for (const { name, text, values } of all.values()) {
      await writer.query(`prepare ${name} as ${text}`)
      const plan = await writer.query<{ 'QUERY PLAN': string }>(
        `explain (costs off) execute ${name} (${values.map(() => 'null').join(', ')})`,
      )
      await writer.query(`deallocate ${name}`)
      const lines = plan
        .map((line) => line['QUERY PLAN'])
        .filter((line) => /Seq Scan|(?:Hash|Merge)(?: \w+)* Join/.test(line))
      expect(lines, text).toEqual([])
    }
  }, 60_000)

  test('writes nothing of what it has no part for', () => {
    const { text } = statementFor(1, [step])
    const written = [...text.matchAll(/(?:insert into|update) (\w+)/g)].map(([, table]) => table)
    expect(written).toEqual(['run', 'run_event'])
  })
})
