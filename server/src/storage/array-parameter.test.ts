import { afterAll, beforeAll, expect, test } from 'vitest'
import { provideTestDatabase } from '../../test/harness/postgres.ts'
import { boolArray, float8Array, int4Array, int8Array, textArray, timestampArray } from './array-parameter.ts'
import { type Database, openDatabase } from './database.ts'

let database: Database
beforeAll(async () => {
  database = await openDatabase(await provideTestDatabase(), { maxReaders: 1, statementTimeoutMs: 0 })
})
afterAll(() => database.close())

test.each([
  ['text', textArray(['a', '', null, '"{,}\\', 'é😀', 'NULL']), ['a', '', null, '"{,}\\', 'é😀', 'NULL']],
  ['int', int4Array([0, -1, 2_147_483_647]), [0, -1, 2_147_483_647]],
  ['bigint', int8Array([0, -1n, 9_007_199_254_740_991]), [0, -1, 9_007_199_254_740_991]],
  ['float8', float8Array([0.5, -2]), [0.5, -2]],
  ['bool', boolArray([true, false]), [true, false]],
])('an array of %s arrives as it was sent', async (type, sent, expected) => {
  const [row] = await database.query<{ value: unknown }>(`select $1::${type}[] as value`, [sent])
  expect(row?.value).toEqual(expected)
})

test('moments arrive to the millisecond, before and after 2000', async () => {
  const moments = [new Date('1999-12-31T23:59:59.999Z'), null, new Date('2026-11-21T12:00:00.001Z')]
  const rows = await database.query<{ at: Date | null }>('select unnest($1::timestamptz[]) as at', [
    timestampArray(moments),
  ])
  expect(rows.map(({ at }) => at)).toEqual(moments)
})

test.each([
  ['text', textArray([])],
  ['int', int4Array([])],
  ['timestamptz', timestampArray([])],
])('an empty array of %s is an empty array', async (type, sent) => {
  const [row] = await database.query<{ length: number }>(`select cardinality($1::${type}[]) as length`, [
    sent,
  ])
  expect(row?.length).toBe(0)
})
