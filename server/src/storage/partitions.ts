/**
 * The log by months. A month's partition is made ahead, while nothing of it can stand in the default one; what has no
 * month of its own stands in `run_event_rest` and is read just the same.
 */

import type { Db, Transactor } from './database.ts'
import { DatabaseError } from './database-error.ts'

/** `2026-11`, in UTC. */
export type Month = string

export const PARENT = 'run_event'
const NAME = /^run_event_(\d{4})_(\d{2})$/

/** A lock that is not had at once is asked for again in the next round: all readers and writers queue behind it. */
const LOCK_TIMEOUT = '200ms'
const LOCK_NOT_AVAILABLE = '55P03'

export const monthOf = (atMs: number): Month => new Date(atMs).toISOString().slice(0, 7)

/** The month that comes `by` months after. */
export function addMonths(month: Month, by: number): Month {
  const [year = 0, number = 1] = month.split('-').map(Number)
  return new Date(Date.UTC(year, number - 1 + by, 1)).toISOString().slice(0, 7)
}

const nameOf = (month: Month): string => `${PARENT}_${month.replace('-', '_')}`
const startOf = (month: Month): string => `${month}-01 00:00:00+00`

/** The months that have a partition, oldest first. */
export async function listMonths(db: Db): Promise<Month[]> {
  const rows = await db.query<{ name: string }>(
    `select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = to_regclass('${PARENT}') order by c.relname collate "C"`,
  )
  return rows.flatMap(({ name }) => {
    const [, year, month] = NAME.exec(name) ?? []
    return year === undefined ? [] : [`${year}-${month}`]
  })
}

/**
 * Makes sure of the months from now to two ahead; gives those it made. A month that the default partition already has
 * rows of, or whose lock is not to be had, is left to the default one.
 */
export async function makeMonthsAhead(db: Transactor, atMs: number): Promise<Month[]> {
  const known = new Set(await listMonths(db))
  const wanted = [0, 1, 2].map((by) => addMonths(monthOf(atMs), by)).filter((month) => !known.has(month))
  const made: Month[] = []
  for (const month of wanted) if (await makeMonth(db, month)) made.push(month)
  return made
}

async function makeMonth(db: Transactor, month: Month): Promise<boolean> {
  return unlessLocked(() => db.inTransaction((tx) => createMonth(tx, month)))
}

/** False when the default partition has rows of the month. */
export async function createMonth(db: Db, month: Month): Promise<boolean> {
  const [from, to] = [startOf(month), startOf(addMonths(month, 1))]
  const inDefault = await db.query(`select from ${PARENT}_rest where at >= $1 and at < $2 limit 1`, [
    from,
    to,
  ])
  if (inDefault.length > 0) return false
  await db.query(`set local lock_timeout = '${LOCK_TIMEOUT}'`)
  // Attaching takes a weaker lock on the log than creating in place would.
  await db.query(`create table if not exists ${nameOf(month)} (like ${PARENT} including all)`)
  await db.query(
    `alter table ${PARENT} attach partition ${nameOf(month)} for values from ('${from}') to ('${to}')`,
  )
  return true
}

/** Removes partitions of months before `month` that a purge has emptied; gives those it removed. */
export async function dropEmptyMonths(db: Transactor, before: Month): Promise<Month[]> {
  const dropped: Month[] = []
  for (const month of await listMonths(db)) {
    if (month >= before || !(await isEmpty(db, month))) continue
    const isDropped = await unlessLocked(() =>
      db.inTransaction(async (tx) => {
        await tx.query(`set local lock_timeout = '${LOCK_TIMEOUT}'`)
        await tx.query(`lock table ${nameOf(month)} in access exclusive mode`)
        if (!(await isEmpty(tx, month))) return false
        await tx.query(`drop table ${nameOf(month)}`)
        return true
      }),
    )
    if (isDropped) dropped.push(month)
  }
  return dropped
}

const isEmpty = async (db: Db, month: Month): Promise<boolean> =>
  (await db.query(`select from ${nameOf(month)} limit 1`)).length === 0

async function unlessLocked(work: () => Promise<boolean>): Promise<boolean> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof DatabaseError && error.sqlState === LOCK_NOT_AVAILABLE) return false
    throw error
  }
}
