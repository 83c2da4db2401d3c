import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { GateError } from '../domain/error.ts'
import { hashKey, type KeyKind, mintKey, mintWebhookSecret, parseKeyFormat } from './keys.ts'

const KINDS: [KeyKind, string][] = [
  [{ holder: 'organization', mode: 'live' }, 'org_live_'],
  [{ holder: 'organization', mode: 'test' }, 'org_test_'],
  [{ holder: 'tenant', mode: 'live' }, 'ten_live_'],
  [{ holder: 'tenant', mode: 'test' }, 'ten_test_'],
]

describe('an API key', () => {
  test.each(KINDS)('%o begins with %s and says so itself', (kind, prefix) => {
    const key = mintKey(kind).reveal()

    expect(key).toMatch(new RegExp(`^${prefix}[0-9a-z]{58}$`))
    expect(parseKeyFormat(key)).toEqual(kind)
  })

  test('no two keys are equal', () => {
    const keys = Array.from({ length: 1_000 }, () =>
      mintKey({ holder: 'organization', mode: 'live' }).reveal(),
    )

    expect(new Set(keys).size).toBe(1_000)
  })

  test('a key with one character changed, left out or added is not well formed', () => {
    const key = mintKey({ holder: 'organization', mode: 'live' }).reveal()
    const places = fc.nat({ max: key.length - 1 })
    const characters = fc.constantFrom('0', '1', '9', 'a', 'b', 'i', 'l', 'o', 'u', 'z', 'A', '_', ' ', '\n')

    fc.assert(
      fc.property(places, characters, (place, character) => {
        const changes = [
          key.slice(0, place) + character + key.slice(place + 1),
          key.slice(0, place) + key.slice(place + 1),
          key.slice(0, place) + character + key.slice(place),
        ]
        for (const text of changes) if (text !== key) expect(() => parseKeyFormat(text)).toThrow(GateError)
      }),
    )
  })

  test.each(['', 'org_live_', 'undefined_undefined_undefined', 'tok_live_abc', `org_live_${'0'.repeat(58)}`])(
    '"%s" is not well formed, and the answer does not repeat it',
    (text) => {
      const attempt = (): unknown => parseKeyFormat(text)

      expect(attempt).toThrow(expect.objectContaining({ code: 'INVALID_API_KEY_FORMAT' }))
      if (text.length > 20) expect(attempt).not.toThrow(text)
    },
  )

  test('keys that were handed out long ago stay well formed', () => {
    const issued = `org_live_${'0'.repeat(52)}tex1k3`

    expect(parseKeyFormat(issued)).toEqual({ holder: 'organization', mode: 'live' })
  })

  test('only its SHA-256 is stored', () => {
    expect(hashKey('abc')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
  })
})

test('a webhook secret is whsec_ and padded base64 of 32 bytes', () => {
  const secret = mintWebhookSecret()

  expect(secret.reveal()).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
  expect(Buffer.from(secret.reveal().slice(6), 'base64')).toHaveLength(32)
  expect(String(secret)).toBe('[secret]')
})
