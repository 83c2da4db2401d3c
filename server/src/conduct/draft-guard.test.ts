import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createRedactor } from '../lib/redact.ts'
import { DraftGuard } from './draft-guard.ts'

const { clean } = createRedactor({ secrets: ['hidden-token'] })
const KEY = '-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\ndef ghi\n-----END RSA PRIVATE KEY-----'
const TEXT = `It is hidden-token.\nDB_PASSWORD = "q7Zk2VbX9mTf4LsW" and\nAuthorization: Bearer q7Zk2VbX9mTf4LsW\n${KEY}\nBye`

function shown(pieces: readonly string[]): string {
  const texts: string[] = []
  const guard = new DraftGuard(clean, (text) => texts.push(text))
  for (const piece of pieces) guard.take(piece)
  guard.flush()
  return texts.join('')
}

test('a secret that arrives in pieces is masked, and all other text comes through', () => {
  const cuts = fc.uniqueArray(fc.integer({ min: 0, max: TEXT.length }), { maxLength: 60 })
  fc.assert(
    fc.property(cuts, (places) => {
      const edges = [0, ...places.toSorted((a, b) => a - b), TEXT.length]
      const pieces = edges.slice(1).map((edge, at) => TEXT.slice(edges[at], edge))
      expect(shown(pieces)).toBe(clean(TEXT))
    }),
  )
  expect(shown(TEXT.split(''))).toBe(clean(TEXT))
  expect(clean(TEXT)).toBe(
    'It is [secret].\nDB_PASSWORD = "[secret]" and\nAuthorization: Bearer [secret]\n[secret]\nBye',
  )
})

test('a password is masked that comes long after the command that it is for', () => {
  const text = `curl -sS -H "Accept: ${'application/json, '.repeat(9)}" -u alice:wonderland host`
  expect(shown(text.split(''))).toBe(text.replace('wonderland', '[secret]'))
})
