import { createHash, randomBytes } from 'node:crypto'
import { GateError } from '../domain/error.ts'
import type { Mode } from '../domain/facts.ts'
import { sha256 } from '../lib/hash.ts'
import { Secret } from '../lib/secret.ts'

/** Whom an API key speaks for, and which half of the data it sees; both can be read from the key itself. */
export interface KeyKind {
  holder: 'organization' | 'tenant'
  mode: Mode
}

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
const KEY_BYTES = 32
const SHAPE = /^(org|ten)_(live|test)_([0-9a-hjkmnp-tv-z]{52})([0-9a-hjkmnp-tv-z]{6})$/

/** `org_live_` (or `org_test_`, `ten_live_`, `ten_test_`), 32 random bytes as 52 characters, and 6 of checksum. */
export function mintKey({ holder, mode }: KeyKind): Secret {
  const body = `${holder === 'organization' ? 'org' : 'ten'}_${mode}_${toBase32(randomBytes(KEY_BYTES))}`
  return new Secret(body + checksum(body))
}

/**
 * What kind of key `text` is. Throws `GateError` INVALID_API_KEY_FORMAT, without a look into the database, for anything
 * that was never a key: the checksum finds a key that was cut or mistyped. Whether it exists is another question.
 */
export function parseKeyFormat(text: string): KeyKind {
  const [, holder, mode, random, sum] = SHAPE.exec(text) ?? []
  if (checksum(`${holder}_${mode}_${random}`) !== sum) {
    throw new GateError('INVALID_API_KEY_FORMAT', 'The API key is not well formed.', {
      hint: 'Copy the whole key, from its prefix (org_live_, org_test_, ten_live_ or ten_test_) to its last character.',
    })
  }
  return { holder: holder === 'org' ? 'organization' : 'tenant', mode: mode === 'live' ? 'live' : 'test' }
}

/** What is stored of a key. It needs no salt and no slow hash: nobody guesses 32 random bytes. */
export const hashKey = (key: string): string => sha256(key)

/** `whsec_` and padded base64 of 32 random bytes, as Standard Webhooks has it. */
export const mintWebhookSecret = (): Secret =>
  new Secret(`whsec_${randomBytes(KEY_BYTES).toString('base64')}`)

/** The first 30 bits of a SHA-256: one of a billion mistakes passes. */
const checksum = (body: string): string =>
  toBase32(createHash('sha256').update(body).digest().subarray(0, 4)).slice(0, 6)

/** Lower-case Crockford base32, most significant bits first, the last character filled up with zeros. */
function toBase32(bytes: Uint8Array): string {
  let text = ''
  let bits = 0
  let rest = 0
  for (const byte of bytes) {
    rest = (rest << 8) | byte
    for (bits += 8; bits >= 5; bits -= 5) text += ALPHABET.charAt((rest >> (bits - 5)) & 31)
    rest &= (1 << bits) - 1
  }
  return bits === 0 ? text : text + ALPHABET.charAt((rest << (5 - bits)) & 31)
}
