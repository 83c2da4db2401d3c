import { expect, test } from 'vitest'
import { redactor } from '../lib/redact.ts'
import { DraftGuard } from './draft-guard.ts'

test('a secret that arrives in pieces is masked, and all other text comes through', () => {
  const shown: string[] = []
  const guard = new DraftGuard(redactor(['hidden-token']), (text) => shown.push(text))
  for (const delta of ['The tok', 'en is hid', 'den-to', 'ken', ' and no', 't more']) guard.take(delta)
  expect(shown.join('')).toBe('The token is [secret] and not ')
  guard.flush()
  expect(shown.join('')).toBe('The token is [secret] and not more')
})
