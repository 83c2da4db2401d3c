import type { Db } from './database.ts'

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

/** Counting stops here. */
export const COUNT_CAP = 10_000

/** Conditions of one statement. `?` stands for the next value. */
export class Where {
  readonly #conditions: string[] = []
  readonly values: unknown[] = []

  and(condition: string, ...values: unknown[]): this {
    const rest = [...values]
    this.#conditions.push(condition.replaceAll('?', () => this.bind(rest.shift())))
    return this
  }

  /** The parameter that stands for `value`. */
  bind(value: unknown): string {
    this.values.push(value)
    return `$${this.values.length}`
  }

  get sql(): string {
    return this.#conditions.join(' and ')
  }
}

interface ListOf {
  select: string
  from: string
  /** What is counted instead, when the conditions need no more of `from`. */
  countFrom?: string
  where: Where
  /** The columns that order the list, newest first. */
  at: string
  id: string
}

/** One page of a list. The statement's texts are the caller's own; all values are bound. */
export async function readPage<Row extends object>(db: Db, list: ListOf, ask: PageAsk): Promise<PageOf<Row>> {
  const { select, from, where, at, id } = list
  const total = ask.after === null ? await countRows(db, list) : null
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

async function countRows(db: Db, { from, countFrom = from, where }: ListOf): Promise<number> {
  const [row] = await db.query<{ total: number }>(
    `select count(*)::int as total from (select 1 from ${countFrom} where ${where.sql} limit ${COUNT_CAP + 1}) as counted`,
    where.values,
  )
  return row?.total ?? 0
}
