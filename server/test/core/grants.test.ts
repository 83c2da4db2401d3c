import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GateError } from '../../src/domain/error.ts'
import type { RunId } from '../../src/domain/facts.ts'
import { availableMicro } from '../../src/domain/money.ts'
import { newId } from '../../src/lib/id.ts'
import { findAccount } from '../../src/storage/accounts.ts'
import { findBalance } from '../../src/storage/balance.ts'
import { expireGrants, insertGrant, listLiveGrants } from '../../src/storage/credits.ts'
import { openDatabase } from '../../src/storage/database.ts'
import { MIGRATIONS, migrate } from '../../src/storage/migrate.ts'
import { provideEmptyDatabase } from '../harness/postgres.ts'
import {
  type EngineRoom,
  factsOf,
  findingsOf,
  gatedPerformer,
  type OpenEngine,
  openEngineRoom,
} from './engine-room.ts'
import { costing, MICRO, PRICES } from './priced-step.ts'

const DAY = 86_400_000
const START = Date.now()
const dayOf = (day: number): Date => new Date(START + day * DAY)

/** What each run uses, in credits, once it is let go. */
const uses = new Map<RunId, number>()
const performer = gatedPerformer(
  costing(({ facts }) => {
    const cost = uses.get(facts.id) ?? 0
    return { most: cost, cost }
  }),
)

let room: EngineRoom
let opened: OpenEngine
beforeAll(async () => {
  room = await openEngineRoom()
  opened = await room.engine({ performer, slots: 1_000 })
})
afterAll(async () => {
  await opened[Symbol.asyncDispose]()
  await room[Symbol.asyncDispose]()
})

type Class = 'included' | 'purchased'
interface NewGrant {
  credits: number
  kind: Class
  /** The day it ends on; `null` is never. */
  endsOn: number | null
}

const give = (organization: string, { credits, kind, endsOn }: NewGrant, at = dayOf(0)): Promise<void> =>
  room.database.inTransaction((tx) =>
    insertGrant(tx, organization, {
      id: newId('txn', at.getTime()),
      class: kind,
      micro: credits * MICRO,
      description: '',
      expiresAt: endsOn === null ? null : dayOf(endsOn),
      at,
    }),
  )

/** Opens a run that holds so many credits and works until it is settled; false when they are not there. */
async function reserve(organization: string, credits: number): Promise<RunId | null> {
  const facts = factsOf(organization, { reserveMicro: credits * MICRO, prices: PRICES })
  try {
    await opened.create(facts)
  } catch (error) {
    if (error instanceof GateError && error.code === 'INSUFFICIENT_CREDITS') return null
    throw error
  }
  await performer.entered(facts.id)
  return facts.id
}

async function settle(id: RunId, credits: number): Promise<void> {
  uses.set(id, credits)
  performer.release(id)
  await opened.finished(id)
}

/** An account as a purse of single credits, each with its class and its end: nothing is put off, nothing is summed. */
class Purse {
  readonly coins: { kind: Class; endsOn: number; n: number }[] = []
  reserved = 0
  #made = 0

  give({ credits, kind, endsOn }: NewGrant): void {
    const n = this.#made++
    for (let i = 0; i < credits; i++) this.coins.push({ kind, endsOn: endsOn ?? Number.POSITIVE_INFINITY, n })
    this.coins.sort(
      (a, b) =>
        Number(a.kind === 'purchased') - Number(b.kind === 'purchased') ||
        (a.endsOn === b.endsOn ? 0 : a.endsOn - b.endsOn) ||
        a.n - b.n,
    )
  }

  reserve(credits: number): boolean {
    if (this.coins.length - this.reserved < credits) return false
    this.reserved += credits
    return true
  }

  settle(held: number, used: number): void {
    this.reserved -= held
    this.coins.splice(0, used)
  }

  /** The first coins are those that what is reserved will be paid with. */
  expire(day: number): number {
    const before = this.coins.length
    const kept = this.coins.filter((coin, i) => i < this.reserved || coin.endsOn > day)
    this.coins.splice(0, before, ...kept)
    return before - kept.length
  }

  left(kind: Class): number {
    return this.coins.filter((coin) => coin.kind === kind).length
  }
}

const someGrant = fc.record({
  credits: fc.integer({ min: 1, max: 12 }),
  kind: fc.constantFrom<Class>('included', 'purchased'),
  endsOn: fc.option(fc.integer({ min: 1, max: 12 }), { freq: 3 }),
})
const someMoves = fc.array(
  fc.oneof(
    fc.record({ move: fc.constant('give' as const), grant: someGrant }),
    fc.record({ move: fc.constant('reserve' as const), credits: fc.integer({ min: 1, max: 15 }) }),
    fc.record({
      move: fc.constant('settle' as const),
      which: fc.nat(),
      part: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
    fc.record({ move: fc.constant('wait' as const), days: fc.integer({ min: 1, max: 3 }) }),
  ),
  { minLength: 5, maxLength: 40 },
)

describe('an account', () => {
  test('has what a purse of single credits has, whatever is given, reserved, spent and expires', async () => {
    await fc.assert(
      fc.asyncProperty(someMoves, async (moves) => {
        const organization = await room.organization(0)
        const purse = new Purse()
        const open: { id: RunId; held: number }[] = []
        let day = 0
        for (const each of moves) {
          if (each.move === 'give') {
            await give(organization, each.grant)
            purse.give(each.grant)
          } else if (each.move === 'reserve') {
            const id = await reserve(organization, each.credits)
            expect(id !== null).toBe(purse.reserve(each.credits))
            if (id !== null) open.push({ id, held: each.credits })
          } else if (each.move === 'settle') {
            const [run] = open.splice(each.which % Math.max(1, open.length), 1)
            if (run === undefined) continue
            const used = Math.round(each.part * run.held)
            await settle(run.id, used)
            purse.settle(run.held, used)
          } else {
            day += each.days
            const taken = await expireGrants(room.database, organization, dayOf(day))
            expect(taken).toBe(purse.expire(day) * MICRO)
          }
          expect(await findBalance(room.database, organization)).toMatchObject({
            includedMicro: purse.left('included') * MICRO,
            purchasedMicro: purse.left('purchased') * MICRO,
            reservedMicro: purse.reserved * MICRO,
          })
        }
        for (const { id } of open) await settle(id, 0)
        expect(await room.findings()).toEqual([])
      }),
      { numRuns: Number(process.env['AGENTGATE_TEST_PURSES'] ?? 25) },
    )
  }, 120_000)

  test('is never below zero while grants end under reservations, and each credit is spent or taken back once', async () => {
    const organization = await room.organization(0)
    const clients = 8
    let isOver = false
    let [lowest, samples, given, taken, spent] = [0, 0, 0, 0, 0]
    const watching = (async () => {
      while (!isOver) {
        const account = await findAccount(room.database, organization)
        if (account !== undefined) lowest = Math.min(lowest, availableMicro(account))
        samples++
      }
    })()
    const giving = (async () => {
      for (let round = 0; !isOver; round++) {
        await give(organization, { credits: 20, kind: 'included', endsOn: -1 })
        await give(organization, { credits: 5, kind: 'purchased', endsOn: null })
        given += 25
      }
    })()
    const expire = async (): Promise<void> => {
      const micro = await expireGrants(room.database, organization, dayOf(0))
      taken += micro
    }
    const expiring = [1, 2].map(async () => {
      while (!isOver) await expire()
    })
    const client = async (): Promise<void> => {
      for (let n = 0; n < 20; n++) {
        const id = await reserve(organization, 4)
        if (id === null) continue
        await settle(id, n % 5)
        spent += n % 5
      }
    }
    await Promise.all(Array.from({ length: clients }, client))
    isOver = true
    await Promise.all([watching, giving, ...expiring])
    await expire()

    expect(lowest).toBe(0)
    expect(samples).toBeGreaterThan(10)
    expect(taken).toBeGreaterThan(0)
    expect(spent).toBeGreaterThan(0)
    expect(await findAccount(room.database, organization)).toMatchObject({
      reservedMicro: 0,
      spentMicro: spent * MICRO,
      includedMicro: ((given / 25) * 20 - taken / MICRO) * MICRO,
    })
    const live = await listLiveGrants(room.database, organization)
    expect(live.every(({ expiresAt }) => expiresAt === null)).toBe(true)
    expect(await room.findings()).toEqual([])
  }, 120_000)
})

test('a credit that is reserved when its grant ends is taken back when it was not spent after all', async () => {
  const organization = await room.organization(0)
  await give(organization, { credits: 10, kind: 'included', endsOn: 1 })
  await give(organization, { credits: 10, kind: 'purchased', endsOn: null })
  const id = await reserve(organization, 6)
  expect(await expireGrants(room.database, organization, dayOf(2))).toBe(4 * MICRO)
  expect(await expireGrants(room.database, organization, dayOf(2))).toBe(0)
  await settle(id ?? 'run_none', 2)
  expect(await expireGrants(room.database, organization, dayOf(2))).toBe(4 * MICRO)
  expect(await findBalance(room.database, organization)).toMatchObject({
    includedMicro: 0,
    purchasedMicro: 10 * MICRO,
  })
  expect(await room.findings()).toEqual([])
})

test('a grant that an older release booked is found in the ledger', async () => {
  const organization = await room.organization(5)
  await room.database.query(
    `with booked as (insert into ledger (id, organization_id, kind, class, micro, at)
       values ($1, $2, 'grant', 'purchased', $3, $4))
     update account set purchased_micro = purchased_micro + $3 where organization_id = $2`,
    [newId('txn', START), organization, 7 * MICRO, dayOf(0)],
  )
  expect(await room.findings()).toEqual([])
  expect(await findBalance(room.database, organization)).toMatchObject({ includedMicro: 12 * MICRO })
  await give(organization, { credits: 1, kind: 'included', endsOn: null })
  expect(await findBalance(room.database, organization)).toMatchObject({
    includedMicro: 6 * MICRO,
    purchasedMicro: 7 * MICRO,
  })
  expect(await room.findings()).toEqual([])
})

test('what was granted and spent before grants had an end stands on grants after the migration', async () => {
  await using database = await openDatabase(await provideEmptyDatabase(), {
    maxReaders: 2,
    statementTimeoutMs: 0,
  })
  const folder = await mkdtemp(join(tmpdir(), 'agentgate-grants-'))
  for (const name of ['0001_first.sql', '0002_operation.sql']) {
    await copyFile(new URL(name, MIGRATIONS), join(folder, name))
  }
  await migrate(database, pathToFileURL(`${folder}/`))
  await database.query(
    `with granted as (insert into ledger (id, organization_id, kind, class, micro, at) values
       ('txn_1', 'org_old', 'grant', 'included', 10, $1), ('txn_2', 'org_old', 'grant', 'purchased', 20, $1),
       ('txn_3', 'org_old', 'deduct', null, 13, $1), ('txn_4', 'org_old', 'reserve', null, 13, $1))
     insert into account (organization_id, included_micro, purchased_micro, spent_micro, cycle_start)
       values ('org_old', 10, 20, 13, $1)`,
    [dayOf(0)],
  )
  await migrate(database, MIGRATIONS)
  expect(await findingsOf(database)).toEqual([])
  expect(await findBalance(database, 'org_old')).toMatchObject({ includedMicro: 0, purchasedMicro: 17 })
  expect(await expireGrants(database, 'org_old', dayOf(0))).toBe(0)
  expect(await findingsOf(database)).toEqual([])
  await rm(folder, { recursive: true })
})
