import { describe, expect, test } from 'vitest'
import { redactor } from './redact.ts'

const TOKEN = 'host_9f2c7a+b/1=z "x'
const clean = redactor([TOKEN, 'hunter22', 'ab'])

describe('a known secret is masked', () => {
  test.each([
    ['as it is', `fatal: ${TOKEN}!`],
    ['twice', `${TOKEN}${TOKEN}`],
    ['in a URL', `https://x:${encodeURIComponent(TOKEN)}@host/a`],
    [
      'in a URL with small hex digits',
      encodeURIComponent(TOKEN).replace(/%../g, (code) => code.toLowerCase()),
    ],
    ['in a form', `token=${encodeURIComponent(TOKEN).replaceAll('%20', '+')}&a=b`],
    ['in JSON', JSON.stringify({ token: TOKEN })],
  ])('%s', (_where, text) => {
    const shown = clean(text)
    expect(shown).toContain('[secret]')
    expect(shown).not.toContain('9f2c7a')
  })

  test.each(['', 'u', 'us', 'user:', 'x-access-token:'])('in base64 behind "%s"', (before) => {
    for (const encoding of ['base64', 'base64url'] as const) {
      const encoded = Buffer.from(`${before}${TOKEN} and more`).toString(encoding)
      const shown = clean(`Authorization: Basic ${encoded}`)
      expect(shown).toContain('[secret]')
      const left = shown.slice(shown.indexOf('Basic ') + 6).replace('[secret]', '')
      expect(Buffer.from(left, encoding).toString()).not.toContain('9f2c7a')
    }
  })

  test('whole, where one secret begins like another', () => {
    expect(redactor(['secret-one', 'secret-one-and-two'])('secret-one-and-two')).toBe('[secret]')
  })
})

test.each([
  ['ghp_', 'ghp_0123456789abcdefghijklmnopqrstuvwxyzAB'],
  ['sk-', 'sk-proj-0123456789abcdefghijklmnopqrstuv-and-still-more'],
  ['org_live_', 'org_live_0123456789abcdefghijklmnop'],
  ['AKIA', 'AKIAIOSFODNN7EXAMPLE'],
  ['MIIE', '-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\ndef\n-----END RSA PRIVATE KEY-----'],
  ['MIIE', '-----BEGIN PRIVATE KEY-----\nMIIEabc cut off'],
])('what is spelled like a key (%s…) is masked to its end', (beginning, key) => {
  const shown = redactor([])(`before ${key}`)
  expect(shown).toBe('before [secret]')
  expect(shown).not.toContain(beginning)
})

test('other text stays as it is', () => {
  const text = 'ab: sk-short, organisation_live, AKIA, git commit 0123456789abcdef0123456789abcdef01234567'
  expect(clean(text)).toBe(text)
})

test('a megabyte of almost-secrets takes no longer than a megabyte', () => {
  const started = performance.now()
  for (const part of ['sk-', '-----BEGIN PRIVATE KEY-----', 'host_9f2c7a+b/1=', '-----BEGIN A ', 'whsec_']) {
    clean(part.repeat(Math.ceil(1_000_000 / part.length)))
  }
  expect(performance.now() - started).toBeLessThan(5_000)
})
