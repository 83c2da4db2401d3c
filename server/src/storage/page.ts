import type { Db } from './database.ts'
import { countRows, type Totals } from './totals.ts'
import type { Where } from './where.ts'

/** A row's place in a list that runs from new to old. */
export interface Place {
  at: Date
  id: string
}

export interface PageAsk {
  limit: number
  offset: number
  /** Reads on behind this place; such a page is not counted. */
  after: Place | null
}

export interface PageOf<Row> {
  rows: Row[]
  /** The place to read on from; `null` on the last page. */
  next: Place | null
  /** How many rows there are, at most `COUNT_CAP` + 1; `null` behind a place. */
  total: number | null
}

interface ListOf {
  select: string
  from: string
  /** What is counted instead, when the conditions need no more of `from`. */
  countFrom?: string
  where: Where
  /** Remembers that the list is long; for lists that no row ever leaves. */
  totals?: Totals
  /** The columns that order the list, newest first. */
  at: string
  id: string
}

/** One page of a list. The statement's texts are the caller's own; all values are bound. */
export async function readPage<Row extends object>(db: Db, list: ListOf, ask: PageAsk): Promise<PageOf<Row>> {
  const { select, from, where, at, id } = list
  const total = ask.after === null ? await countList(db, list) : null
  if (ask.after !== null) where.and(`(${at}, ${id}) < (?, ?)`, ask.after.at, ask.after.id)
  const limit = where.bind(ask.limit + 1)
  const offset = where.bind(ask.offset)
  const rows = await db.query<Row & { page_at: Date; page_id: string }>(
    `select ${select}, ${at} as page_at, ${id} as page_id from ${from} where ${where.sql}
      order by ${at} desc, ${id} desc limit ${limit} offset ${offset}`,
    where.values,
  )
  const shown = rows.slice(0, ask.limit)
  const last = rows.length > ask.limit ? shown.at(-1) : undefined
  return { rows: shown, next: last ? { at: last.page_at, id: last.page_id } : null, total }
}

const countList = (db: Db, { from, countFrom = from, where, totals }: ListOf): Promise<number> =>
  totals === undefined ? countRows(db, countFrom, where) : totals.count(db, countFrom, where)
