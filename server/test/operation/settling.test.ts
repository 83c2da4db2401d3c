import { afterAll, beforeAll, expect, test } from 'vitest'
import { Housekeeping } from '../../src/housekeeping.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { newId } from '../../src/lib/id.ts'
import { Metrics } from '../../src/lib/metrics.ts'
import { Meters } from '../../src/meters.ts'
import { findBalance } from '../../src/storage/balance.ts'
import { insertGrant } from '../../src/storage/credits.ts'
import { Disk } from '../../src/storage/disk.ts'
import { insertLateUsage } from '../../src/storage/late-usage.ts'
import { type EngineRoom, factsOf, openEngineRoom } from '../core/engine-room.ts'
import { MICRO, PRICES, tokens } from '../core/priced-step.ts'

let room: EngineRoom
beforeAll(async () => {
  room = await openEngineRoom()
})
afterAll(() => room[Symbol.asyncDispose]())

/** An organisation with a grant that has ended, and a finished run whose last usage came late. */
async function owing(): Promise<string> {
  const organization = await room.organization(20)
  const at = new Date()
  const grant = { class: 'included', micro: 5 * MICRO, description: '', at, expiresAt: at } as const
  await room.database.inTransaction((tx) =>
    insertGrant(tx, organization, { ...grant, id: newId('txn', at.getTime()) }),
  )
  const facts = factsOf(organization, { prices: PRICES, reserveMicro: 0 })
  await using worker = await room.engine()
  await worker.create(facts)
  await worker.finished(facts.id)
  await insertLateUsage(room.database, facts, { step: 9, model: 'm', usage: tokens(2), at })
  return organization
}

test('an account that cannot be settled is named in the log, and keeps no other from being settled', async () => {
  const organizations = [await owing(), await owing(), await owing()]
  const [first, broken, last] = organizations.toSorted()
  if (first === undefined || broken === undefined || last === undefined) throw new Error('three are owing')
  await room.database.query(
    `create function refuse() returns trigger language plpgsql as $$ begin raise 'broken'; end $$`,
  )
  await room.database.query(
    `create trigger refused before insert on ledger for each row
      when (new.kind in ('expire', 'late') and new.organization_id = '${broken}') execute function refuse()`,
  )
  const complaints: object[] = []
  const log = { info: () => undefined, error: (facts: object) => complaints.push(facts) }
  const disk = new Disk({ folder: '/', minBytes: 0 })
  await using meters = new Meters(new Metrics(), disk)
  const options = { database: room.database, clock: systemClock, disk, meters, retentionMs: null, log }
  await using house = new Housekeeping(options)
  await house.rounds.money.tick()
  const included = async (organization: string): Promise<number | undefined> =>
    (await findBalance(room.database, organization))?.includedMicro
  const settled = await included(first)
  expect(await included(last)).toBe(settled)
  expect(await included(broken)).toBeGreaterThan(settled ?? Number.POSITIVE_INFINITY)
  expect(complaints).toHaveLength(2)
  expect(complaints[0]).toMatchObject({ organizationId: broken })
  expect(complaints[1]).toHaveProperty('runId')
  await room.database.query('drop trigger refused on ledger')
  await house.rounds.money.tick()
  expect(await included(broken)).toBe(settled)
  expect(await room.findings()).toEqual([])
})
