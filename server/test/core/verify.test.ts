import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { RunId } from '../../src/domain/facts.ts'
import { verifyDatabase } from '../../src/storage/verify.ts'
import { type EngineRoom, factsOf, gatedPerformer, type OpenEngine, openEngineRoom } from './engine-room.ts'

let room: EngineRoom
let organization: string
let opened: OpenEngine
const performer = gatedPerformer()

beforeAll(async () => {
  room = await openEngineRoom()
  organization = await room.organization()
  opened = await room.engine({ performer })
})
afterAll(async () => {
  await opened[Symbol.asyncDispose]()
  await room[Symbol.asyncDispose]()
})

let done: RunId
let working: RunId
beforeEach(async () => {
  const webhookUrl = 'https://hooks.example.com/x'
  const [first, second] = [factsOf(organization, { webhookUrl }), factsOf(organization, { webhookUrl })]
  done = first.id
  working = second.id
  for (const facts of [first, second]) {
    await opened.create(facts)
    await performer.entered(facts.id)
  }
  performer.release(done)
  await opened.finished(done)
})

/** What is found while the database is damaged by these statements; it is mended afterwards. */
async function foundAfter(...damage: [string, unknown[]][]): Promise<string[]> {
  const findings: string[] = []
  const undo = new Error('undo')
  const attempt = room.database.inTransaction(async (tx) => {
    // The check asks for transactions of its own; here it is to see the damage, which is never committed.
    for (const [sql, values] of damage) await tx.query(sql, values)
    const inside = {
      ...tx,
      inTransaction: <T>(work: (of: typeof tx) => Promise<T>) =>
        work({
          ...tx,
          query: async (text, values) =>
            typeof text === 'string' && text.startsWith('set ') ? [] : tx.query(text, values),
        }),
    }
    for await (const { invariant, subject } of verifyDatabase(inside))
      findings.push(`${invariant} ${subject}`)
    throw undo
  })
  await expect(attempt).rejects.toBe(undo)
  return findings
}

test('a sound database has no findings, whatever is at work', async () => {
  expect(await room.findings()).toEqual([])
})

describe('finds', () => {
  test('a hole in the log, and stops there', async () => {
    const found = await foundAfter([
      'delete from run_event where run_id = $1 and first_seq > 1 and last_seq < 8',
      [done],
    ])
    expect(found).toEqual([`2 ${done}`])
  })

  test('a log that ends before the run does', async () => {
    expect(await foundAfter(['update run set last_seq = last_seq + 1 where id = $1', [working]])).toEqual([
      `2 ${working}`,
    ])
  })

  test('a row that does not hold the events it names', async () => {
    const damage =
      "update run_event set events = split_part(events, E'\\n', 1) where run_id = $1 and first_seq = 1"
    expect(await foundAfter([damage, [working]])).toEqual([`2 ${working}`])
  })

  test('events of no run', async () => {
    const damage = `insert into run_event (run_id, first_seq, last_seq, commit_id, epoch, at, events)
      values ('run_zzz', 1, 1, 0, 1, '2026-01-01', '{}')`
    expect(await foundAfter([damage, []])).toEqual(['2 run_zzz'])
  })

  test('a fold that is not what the events make', async () => {
    expect(await foundAfter(["update run set fold = '{}' where id = $1", [working]])).toContain(
      `1 ${working}`,
    )
    expect(await foundAfter(["update run set status_reason = 'x' where id = $1", [working]])).toEqual([
      `1 ${working}`,
    ])
    const outcome = `update run_outcome set outcome = replace(outcome, 'done', 'undone') where run_id = $1`
    expect(await foundAfter([outcome, [done]])).toEqual([`1 ${done}`])
  })

  test('a run without a body', async () => {
    expect(await foundAfter(['delete from run_body where run_id = $1', [done]])).toContain(`1 ${done}`)
  })

  test('a final run that is still held', async () => {
    expect(await foundAfter(["update run set claim = 'clm' where id = $1", [done]])).toEqual([`8 ${done}`])
  })

  test('a final run that went on', async () => {
    const event = {
      id: 'evt_x',
      type: 'step.started',
      createdAt: new Date().toISOString(),
      data: { step: 9 },
    }
    const found = await foundAfter(
      [
        `insert into run_event (run_id, first_seq, last_seq, commit_id, epoch, at, events)
          select id, last_seq + 1, last_seq + 1, 0, 1, created_at,
            json_build_object('seq', last_seq + 1)::jsonb || $2::jsonb from run where id = $1`,
        [done, JSON.stringify(event)],
      ],
      ['update run set last_seq = last_seq + 1 where id = $1', [done]],
    )
    expect(found).toContain(`8 ${done}`)
  })

  test('an account that its ledger does not explain', async () => {
    const damage = 'update account set spent_micro = spent_micro + 1 where organization_id = $1'
    expect(await foundAfter([damage, [organization]])).toEqual([`6 ${organization}`])
  })

  test('an account that spent more than it was granted', async () => {
    const found = await foundAfter(
      ["delete from ledger where organization_id = $1 and kind = 'grant'", [organization]],
      ['delete from credit_grant where organization_id = $1', [organization]],
      ['update account set included_micro = 0 where organization_id = $1', [organization]],
    )
    expect(found).toEqual([`6 ${organization}`])
  })

  test('a grant that its ledger or its account does not explain', async () => {
    const [grant] = await room.database.query<{ id: string }>(
      'select id from credit_grant where organization_id = $1',
      [organization],
    )
    const one = 'update credit_grant set micro = micro + 1 where organization_id = $1'
    expect(await foundAfter([one, [organization]])).toEqual([`6 ${organization}`, `6 ${grant?.id}`])
    const taken = 'update credit_grant set expired_micro = 1 where organization_id = $1'
    expect(await foundAfter([taken, [organization]])).toEqual([`6 ${organization}`, `6 ${grant?.id}`])
  })

  test('late usage that was booked and not charged, charged too high, or charged and not booked', async () => {
    const noted = `insert into late_usage values ($1, 4, $2, '', 'm', 1, 1, 0, 5, $3, 'txn_late')`
    const note: [string, unknown[]] = [noted, [done, organization, new Date()]]
    expect(await foundAfter(note)).toEqual([`6 ${done}`])
    const booked = `with entry as (insert into ledger (id, organization_id, kind, micro, run_id, at)
        values ('txn_late', $2, 'late', $3, $1, $4))
      update account set spent_micro = spent_micro + $3 where organization_id = $2`
    expect(await foundAfter(note, [booked, [done, organization, 0, new Date()]])).toEqual([])
    expect(await foundAfter(note, [booked, [done, organization, 3_000_000, new Date()]])).toEqual([
      `6 ${done}`,
    ])
    expect(await foundAfter([booked, [done, organization, 0, new Date()]])).toEqual([`6 ${done}`])
  })

  test('a charge that was booked twice', async () => {
    const damage = `insert into ledger (id, organization_id, kind, micro, run_id, at)
      select 'txn_again', organization_id, kind, micro, run_id, at from ledger where run_id = $1 and kind = 'deduct'`
    const found = await foundAfter([damage, [done]])
    expect(new Set(found)).toEqual(new Set([`6 ${organization}`, `6 ${done}`]))
  })

  test('an event that is not owed to its receiver, or twice, or never happened', async () => {
    expect(await foundAfter(['delete from delivery where run_id = $1 and seq = 1', [done]])).toEqual([
      `10 ${done}`,
    ])
    const twice = `insert into delivery (id, organization_id, mode, run_id, event_id, event_type, seq, url, created_at,
      next_attempt_at) select 'dlv_again', organization_id, mode, run_id, event_id, event_type, seq, url, created_at,
      created_at from delivery where run_id = $1 and seq = 1`
    expect(await foundAfter([twice, [done]])).toEqual([`10 ${done}`])
    const found = await foundAfter([
      "update delivery set event_id = 'evt_other' where run_id = $1 and seq = 1",
      [done],
    ])
    expect(found).toHaveLength(2)
  })

  test('a lane or a cap that counts wrongly', async () => {
    expect(
      await foundAfter(['update lane set queued = queued + 1 where organization_id = $1', [organization]]),
    ).toEqual([`1 ${organization}/live//scripted`])
    const damage = 'update capacity set running = running + 1 where scope = $1'
    expect(await foundAfter([damage, [`${organization}/live`]])).toEqual([`1 ${organization}/live`])
  })
})
