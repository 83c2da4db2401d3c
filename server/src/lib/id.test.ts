import { expect, test } from 'vitest'
import { isId, newId, randomInt64 } from './id.ts'

const AT = Date.UTC(2026, 0, 1)

test('ids sort by the millisecond they were made in', () => {
  const ids = Array.from({ length: 100 }, (_, i) => newId('run', AT + i))
  expect(ids.toSorted()).toEqual(ids)
})

test('an id has the form that is asked for, and no two are the same', () => {
  const ids = Array.from({ length: 20_000 }, () => newId('evt', AT))
  expect(new Set(ids).size).toBe(ids.length)
  expect(ids.every((id) => isId('evt', id))).toBe(true)
  expect(isId('run', ids[0] ?? '')).toBe(false)
})

test('every place of the random part takes every character', () => {
  const ids = Array.from({ length: 5_000 }, () => newId('evt', AT).slice(14))
  for (let place = 0; place < 16; place++) {
    expect(new Set(ids.map((id) => id.charAt(place))).size).toBe(32)
  }
})

test('commit ids take both signs', () => {
  const drawn = Array.from({ length: 200 }, randomInt64)
  expect(new Set(drawn).size).toBe(200)
  expect(drawn.some((n) => n < 0n) && drawn.some((n) => n > 0n)).toBe(true)
})
