import { count, flag, list, nullable, open, optional, type TSchema, text } from './schema.ts'

/** What every list takes. `after` and `offset` exclude each other. */
export const pageQuery = {
  limit: optional({ ...count('Items per page.', { minimum: 1, maximum: 100 }), default: 20 }),
  after: optional(
    text('The `nextCursor` of the page before; the answer then has no `total`.', { maxLength: 500 }),
  ),
  offset: optional(count('Items to skip; for deep lists use `after`.', { maximum: 10_000 })),
}

/** A list, newest first. */
export const pageOf = <S extends TSchema>(items: S) =>
  open({
    data: list(items, 'The items of this page.'),
    nextCursor: nullable(text('Give it as `after` to read on; null on the last page.')),
    total: optional(count('How many items there are, exact up to 10,000. Absent with `after`.')),
    totalCapped: optional(flag('True when there are more items than `total` says.')),
    limit: optional(count('The limit in force. Absent with `after`.')),
    offset: optional(count('The offset in force. Absent with `after`.')),
  })
