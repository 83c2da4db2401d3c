import { expect, test } from 'vitest'
import { BoundedMap } from './bounded-map.ts'

test('a bounded map forgets what was set longest ago, and what is set again is new', () => {
  const map = new BoundedMap<string, number>(2)
  map.set('a', 1).set('b', 2).set('a', 3).set('c', 4)
  expect([...map]).toEqual([
    ['a', 3],
    ['c', 4],
  ])
})

test('a bounded map does not grow with what it is told', () => {
  const map = new BoundedMap<number, number>(100)
  for (let n = 0; n < 10_000; n++) map.set(n, n)
  expect(map.size).toBe(100)
  expect(map.has(9_900)).toBe(true)
  expect(map.has(9_899)).toBe(false)
})
