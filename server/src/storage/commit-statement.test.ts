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

/** One row for each member: whether the batch creates runs, how, and whether it changes some. */
const KINDS: readonly (readonly CommitRow[])[] = [
  [step],
  ...[
    birth,
    { ...birth, idempotency: key },
    { ...birth, workOrderId: 'wo_1' },
    { ...birth, workOrderId: 'wo_1', idempotency: key },
  ].flatMap((each) => {
    const created: CommitRow = { ...step, runId: 'run_2', oldSeq: 0, birth: each }
    return [[created], [created, step]]
  }),
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

const batches = KINDS.flatMap((kind) =>
  Array.from({ length: 2 ** EXTRAS.length }, (_, chosen): CommitRow[] => {
    const extras = EXTRAS.filter((_extra, i) => (chosen >> i) & 1)
    return kind.map((row, i) => (i === 0 ? Object.assign({}, row, ...extras) : row))
  }),
)

describe('the statement of a batch', () => {
  test('has a name of its own for everything that a batch can be made of', () => {
    expect(batches).toHaveLength(9 * 64)
    const byName = new Map(batches.map((batch) => [statementFor(1, batch).name, statementFor(1, batch).text]))
    expect(byName.size).toBe(batches.length)
    expect(new Set(byName.values()).size).toBe(batches.length)
  })

  test('is one that PostgreSQL plans with indexes alone', async () => {
    for (const batch of batches) {
      const { name, text, values } = statementFor(1, batch)
      await writer.query(`prepare ${name} as ${text}`)
      const plan = await writer.query<{ 'QUERY PLAN': string }>(
        `explain (costs off) execute ${name} (${values.map(() => 'null').join(', ')})`,
      )
      await writer.query(`deallocate ${name}`)
      const lines = plan
        .map((line) => line['QUERY PLAN'])
        .filter((line) => /Seq Scan|(?:Hash|Merge) \w*Join/.test(line))
      expect(lines, text).toEqual([])
    }
  }, 60_000)

  test('writes nothing of what it has no part for', () => {
    const { text } = statementFor(1, [step])
    const written = [...text.matchAll(/(?:insert into|update) (\w+)/g)].map(([, table]) => table)
    expect(written).toEqual(['run', 'run_event'])
  })
})
