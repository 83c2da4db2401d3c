import { BoundedMap } from '../lib/bounded-map.ts'
import type { Clock } from '../lib/clock.ts'
import { sha256 } from '../lib/hash.ts'
import type { Db } from './database.ts'
import type { Where } from './where.ts'

/** Counting stops here. */
export const COUNT_CAP = 10_000

const REMEMBERED_MS = 30_000
const REMEMBERED = 1_000

/** How many rows of `from` there are, at most `COUNT_CAP` + 1. */
export async function countRows(db: Db, from: string, where: Where): Promise<number> {
  const [row] = await db.query<{ total: number }>(
    `select count(*)::int as total from (select 1 from ${from} where ${where.sql} limit ${COUNT_CAP + 1}) as counted`,
    where.values,
  )
  return row?.total ?? 0
}

/**
 * Counts lists that no row ever leaves. One that was found longer than `COUNT_CAP` is still longer, so for half a
 * minute it is not counted again; a shorter one always is.
 */
export class Totals {
  readonly #clock: Clock
  /** Lists that are longer, and until when that is taken for granted, on the monotonic clock. */
  readonly #long = new BoundedMap<string, number>(REMEMBERED)

  constructor(clock: Clock) {
    this.#clock = clock
  }

  async count(db: Db, from: string, where: Where): Promise<number> {
    const list = sha256(JSON.stringify([from, where.sql, where.values]))
    if ((this.#long.get(list) ?? Number.NEGATIVE_INFINITY) > this.#clock.monotonic()) return COUNT_CAP + 1
    const total = await countRows(db, from, where)
    if (total > COUNT_CAP) this.#long.set(list, this.#clock.monotonic() + REMEMBERED_MS)
    return total
  }
}
