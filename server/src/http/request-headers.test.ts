import { describe, expect, test } from 'vitest'
import { idempotencyKeyOf, isMatch, requestIdOf, traceparentOf, waitOf } from './request-headers.ts'

test.each([
  ['wait=10', 10],
  ['respond-async, wait=5', 5],
  ['wait = "7"; foo', 7],
  ['wait=0', 0],
  ['wait=61', 60],
  ['wait=-1', null],
  ['wait=1.5', null],
  ['nowait=5', null],
  ['', null],
  [undefined, null],
])('Prefer: %s waits %s seconds', (header, seconds) => {
  expect(waitOf(header)).toBe(seconds)
})

describe('names of a request', () => {
  test('are the caller’s own where they have the right form', () => {
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    expect(requestIdOf('a.B_c-1', 0)).toBe('a.B_c-1')
    expect(traceparentOf(traceparent)).toBe(traceparent)
  })

  test.each(['', 'a b', 'a\nb', 'x'.repeat(129)])('are made where %j was sent', (header) => {
    expect(requestIdOf(header, 0)).toMatch(/^req_[0-9a-z]{26}$/)
    expect(traceparentOf(header)).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
  })

  test('are made where a trace is all zeros', () => {
    expect(traceparentOf(`00-${'0'.repeat(32)}-00f067aa0ba902b7-01`)).not.toContain('0'.repeat(32))
  })
})

test('a strong tag matches itself, its weak form and the star', () => {
  expect(isMatch('"a", W/"b"', '"b"')).toBe(true)
  expect(isMatch('*', '"b"')).toBe(true)
  expect(isMatch('"a"', '"b"')).toBe(false)
  expect(isMatch(undefined, '"b"')).toBe(false)
})

test('an Idempotency-Key has 1–255 visible characters', () => {
  expect(idempotencyKeyOf(undefined)).toBeNull()
  expect(idempotencyKeyOf('k'.repeat(255))).toHaveLength(255)
  for (const key of ['', 'a b', 'é', 'k'.repeat(256)])
    expect(() => idempotencyKeyOf(key)).toThrow(/Idempotency-Key/)
})
