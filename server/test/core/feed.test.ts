import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RunFacts } from '../../src/domain/facts.ts'
import { readFeed } from '../../src/storage/feed.ts'
import { type EngineRoom, factsOf, type OpenEngine, openEngineRoom, patient } from './engine-room.ts'

let room: EngineRoom
let opened: OpenEngine
beforeAll(async () => {
  room = await openEngineRoom()
  opened = await room.engine()
})
afterAll(async () => {
  await opened[Symbol.asyncDispose]()
  await room[Symbol.asyncDispose]()
})

interface Seen {
  runId: string
  seq: number
  tenantContext: { tenantId?: string }
}

/** A reader that goes on behind its cursor, in pages of `limit`. */
function reader(
  organizationId: string,
  { limit = 100, tenantId = null as string | null, mode = 'live' } = {},
) {
  let after: string | null = null
  const seen: Seen[] = []
  return {
    seen,
    async read(): Promise<number> {
      const page = await readFeed(
        room.database,
        { organizationId, mode, tenantId },
        { after, limit, epoch: 1 },
      )
      after = page.nextCursor
      for (const line of page.lines) {
        const { runId, seq, data } = JSON.parse(line)
        seen.push({ runId, seq, tenantContext: data.tenantContext })
      }
      return page.lines.length
    },
    /** Until nothing more comes. */
    async readAll(): Promise<void> {
      while ((await this.read()) > 0);
    },
  }
}

async function finish(...all: RunFacts[]): Promise<void> {
  await Promise.all(all.map((facts) => opened.create(facts)))
  await Promise.all(all.map(({ id }) => opened.finished(id)))
}

/** Transactions of other databases on the server hold the feed back too; waits until none is older than the log. */
async function settled(): Promise<void> {
  const isBehind = async (): Promise<boolean> => {
    const [row] = await room.database.query<{ behind: boolean }>(
      'select bool_or(xid >= pg_snapshot_xmin(pg_current_snapshot())) as behind from run_event',
    )
    return row?.behind ?? false
  }
  await expect.poll(isBehind, { timeout: 20_000 }).toBe(false)
}

const storedEvents = async (organizationId: string): Promise<number> => {
  const [row] = await room.database.query<{ n: number }>(
    `select coalesce(sum(run_event.last_seq - first_seq + 1), 0)::int as n from run_event
     join run on run.id = run_id where organization_id = $1`,
    [organizationId],
  )
  return row?.n ?? 0
}

const keysOf = (seen: readonly Seen[]): string[] => seen.map(({ runId, seq }) => `${runId} ${seq}`)

/** The events of each run in the order they were seen. */
function seqsByRun(seen: readonly Seen[]): number[][] {
  const byRun = new Map<string, number[]>()
  for (const { runId, seq } of seen) byRun.set(runId, [...(byRun.get(runId) ?? []), seq])
  return [...byRun.values()]
}

describe('the feed', () => {
  test.each([1, 2, 7, 1_000])('gives each event once and in order, in pages of %i', async (limit) => {
    const organization = await room.organization()
    await finish(...Array.from({ length: 5 }, () => factsOf(organization)))
    await settled()
    const feed = reader(organization, { limit })
    await feed.readAll()
    expect(new Set(keysOf(feed.seen)).size).toBe(feed.seen.length)
    expect(feed.seen.length).toBe(await storedEvents(organization))
    for (const seqs of seqsByRun(feed.seen)) expect(seqs).toEqual(seqs.map((_, i) => i + 1))
  })

  test('misses nothing while a transaction is held open for three seconds and others commit', async () => {
    const organization = await room.organization()
    const slow = factsOf(organization)
    await finish(slow)
    await settled()
    const feed = reader(organization, { limit: 10 })
    await feed.readAll()
    await using holder = await room.database.connect()
    let isOpen = true
    let taken: () => void = () => undefined
    const hasPlace = new Promise<void>((resolve) => {
      taken = resolve
    })
    // The held transaction takes its place in the order first and commits last, as a slow writer would.
    const held = holder.inTransaction(async (tx) => {
      await tx.query(
        `insert into run_event (run_id, first_seq, last_seq, commit_id, epoch, at, events)
         select id, last_seq + 1, last_seq + 1, 0, 1, created_at, $2 from run where id = $1`,
        [slow.id, JSON.stringify({ runId: slow.id, seq: 999, data: { tenantContext: {} } })],
      )
      taken()
      await sleep(3_000)
      isOpen = false
    })
    await hasPlace
    await feed.readAll()
    const before = feed.seen.length
    let othersWhileOpen = 0
    while (isOpen) {
      await finish(...Array.from({ length: 4 }, () => factsOf(organization)))
      othersWhileOpen += 4
      await feed.readAll()
      if (isOpen) expect(feed.seen.length).toBe(before)
    }
    await held
    await settled()
    await feed.readAll()
    expect(othersWhileOpen).toBeGreaterThan(4)
    expect(new Set(keysOf(feed.seen)).size).toBe(feed.seen.length)
    expect(feed.seen.length).toBe(await storedEvents(organization))
    expect(feed.seen.findIndex(({ seq }) => seq === 999)).toBe(before)
  })

  test('read while many write misses nothing and repeats nothing', async () => {
    const organization = await room.organization()
    const feeds = [reader(organization, { limit: 3 }), reader(organization, { limit: 50 })]
    let isWriting = true
    const reading = feeds.map(async (feed) => {
      while (isWriting) await feed.read()
      await feed.readAll()
    })
    for (let round = 0; round < 5; round++) {
      await finish(...Array.from({ length: 10 }, () => factsOf(organization)))
    }
    await settled()
    isWriting = false
    await Promise.all(reading)
    for (const { seen } of feeds) {
      expect(new Set(keysOf(seen)).size).toBe(seen.length)
      expect(seen.length).toBe(await storedEvents(organization))
      for (const seqs of seqsByRun(seen)) expect(seqs).toEqual(seqs.map((_, i) => i + 1))
    }
    expect(keysOf(feeds[0]?.seen ?? [])).toEqual(keysOf(feeds[1]?.seen ?? []))
  })

  test('shows nothing of another organisation, mode or tenant', async () => {
    const [ours, theirs] = [await room.organization(), await room.organization()]
    const tenant = { tenantId: 'acme', tenantContext: { tenantId: 'acme' } }
    await finish(
      factsOf(ours),
      factsOf(ours, tenant),
      factsOf(ours, { mode: 'test', prices: null }),
      factsOf(theirs),
    )
    await settled()
    const read = async (options: object): Promise<Seen[]> => {
      const feed = reader(ours, options)
      await feed.readAll()
      return feed.seen
    }
    expect(new Set((await read({})).map(({ runId }) => runId)).size).toBe(2)
    expect(new Set((await read({ mode: 'test' })).map(({ runId }) => runId)).size).toBe(1)
    const ofTenant = await read({ tenantId: 'acme' })
    expect(ofTenant.length).toBeGreaterThan(0)
    expect(ofTenant.every(({ tenantContext }) => tenantContext.tenantId === 'acme')).toBe(true)
  })

  test('goes on into a new epoch, whose transactions are numbered from the start again', async () => {
    const organization = await room.organization()
    const facts = factsOf(organization)
    const worker = await room.engine({ performer: patient })
    await worker.create(facts)
    await settled()
    const scope = { organizationId: organization, mode: 'live', tenantId: null }
    const first = await readFeed(room.database, scope, { after: null, limit: 100, epoch: 1 })
    await room.database.query(
      `insert into run_event (run_id, first_seq, last_seq, commit_id, xid, epoch, at, events)
       values ($1, 50, 50, 0, '3', 2, $2, '{"seq":50}')`,
      [facts.id, new Date()],
    )
    const second = await readFeed(room.database, scope, { after: first.nextCursor, limit: 100, epoch: 2 })
    expect(second.lines).toEqual(['{"seq":50}'])
    await worker[Symbol.asyncDispose]()
  })

  test.each([
    '',
    'x',
    Buffer.from('1 2 3').toString('base64url'),
    Buffer.from('1 2 3 a;b').toString('base64url'),
  ])('refuses a cursor that it did not give out: %j', async (after) => {
    const scope = { organizationId: 'org_x', mode: 'live', tenantId: null }
    await expect(readFeed(room.database, scope, { after, limit: 1, epoch: 1 })).rejects.toMatchObject({
      code: 'INVALID_VALUE',
    })
  })
})
