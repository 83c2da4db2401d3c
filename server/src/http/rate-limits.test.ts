import { expect, test } from 'vitest'
import { manualClock } from '../../test/harness/manual-clock.ts'
import { DEFAULT_ALLOWANCES, limitHeaders, RateLimits } from './rate-limits.ts'

const limitsOf = (submissions: number) => {
  const clock = manualClock()
  return { clock, limits: new RateLimits({ ...DEFAULT_ALLOWANCES, submissions }, clock) }
}

test('an allowance is used up and fills again over a minute', () => {
  const { clock, limits } = limitsOf(20)
  for (let i = 0; i < 20; i++) expect(limits.take('org', 'submissions').remaining).toBe(19 - i)
  expect(limits.take('org', 'submissions')).toMatchObject({
    allowed: false,
    retryAfterSeconds: 3,
    resetAt: clock.now() + 60_000,
  })
  clock.advance(3_000)
  expect(limits.take('org', 'submissions').allowed).toBe(true)
  expect(limits.take('org', 'submissions').allowed).toBe(false)
  clock.advance(600_000)
  expect(limits.take('org', 'submissions').remaining).toBe(19)
})

test('organisations and kinds of requests have allowances of their own', () => {
  const { limits } = limitsOf(1)
  limits.take('org', 'submissions')
  expect(limits.take('org', 'submissions').allowed).toBe(false)
  expect(limits.take('other', 'submissions').allowed).toBe(true)
  expect(limits.take('org', 'reads').allowed).toBe(true)
})

test('what is given back can be used again, and never makes more than the allowance', () => {
  const { limits } = limitsOf(1)
  limits.take('org', 'submissions')
  limits.giveBack('org', 'submissions')
  limits.giveBack('org', 'submissions')
  expect(limits.take('org', 'submissions').allowed).toBe(true)
  expect(limits.take('org', 'submissions').allowed).toBe(false)
})

test('the headers tell limit, rest and reset in both spellings', () => {
  const { clock, limits } = limitsOf(20)
  expect(limitHeaders(limits.take('org', 'submissions'), clock.now())).toEqual({
    'x-ratelimit-limit': '20',
    'x-ratelimit-remaining': '19',
    'x-ratelimit-reset': String(clock.now() / 1000 + 3),
    'ratelimit-policy': '"submissions";q=20;w=60',
    ratelimit: '"submissions";r=19;t=3',
  })
})
