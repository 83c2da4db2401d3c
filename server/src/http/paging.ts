import type { PageAsk, PageOf, Place } from '../storage/page.ts'
import { COUNT_CAP } from '../storage/totals.ts'
import { invalid, invalidField } from './problems.ts'

interface PageQuery {
  limit?: number
  after?: string
  offset?: number
}

/** What page a query asks for. Throws `GateError` for a cursor that is none of ours. */
export function pageAsk({ limit = 20, after, offset }: PageQuery): PageAsk {
  if (after !== undefined && offset !== undefined)
    throw invalidField('offset', 'cannot be given together with `after`')
  return { limit, offset: offset ?? 0, after: after === undefined ? null : placeOf(after) }
}

export function pageAnswer<Row, Item>(page: PageOf<Row>, ask: PageAsk, present: (row: Row) => Item) {
  const data = page.rows.map(present)
  const nextCursor = page.next && cursorOf(page.next)
  if (page.total === null) return { data, nextCursor }
  return { data, nextCursor, ...cappedTotal(page.total), limit: ask.limit, offset: ask.offset }
}

/** `total` stops at 10,000; `totalCapped` then says so. */
export const cappedTotal = (total: number): { total: number; totalCapped?: true } =>
  total > COUNT_CAP ? { total: COUNT_CAP, totalCapped: true } : { total }

const cursorOf = ({ at, id }: Place): string => Buffer.from(`${at.getTime()} ${id}`).toString('base64url')

function placeOf(cursor: string): Place {
  const [, at, id] = /^(\d{1,15}) (\S.*)$/.exec(Buffer.from(cursor, 'base64url').toString('utf8')) ?? []
  if (at === undefined || id === undefined || cursorOf({ at: new Date(Number(at)), id }) !== cursor) {
    throw invalid([{ code: 'INVALID_VALUE', field: 'after', message: 'is not a cursor of this list' }])
  }
  return { at: new Date(Number(at)), id }
}
