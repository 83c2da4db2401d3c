import { randomFillSync } from 'node:crypto'

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
const POOL = new Uint8Array(16 * 1024)
let used = POOL.length

/** 16 random bytes, valid until the next call: asking the system for each id would cost more than the id. */
export function randomBytes16(): Uint8Array {
  if (used === POOL.length) {
    randomFillSync(POOL)
    used = 0
  }
  used += 16
  return POOL.subarray(used - 16, used)
}

/**
 * `<kind>_` and 26 lower-case Crockford base32 characters: 48 bits of time (milliseconds), so that ids sort
 * by creation, then 80 random bits.
 */
export function newId<K extends string>(kind: K, atMs: number): `${K}_${string}` {
  let time = ''
  for (let rest = atMs, i = 0; i < 10; i++) {
    time = ALPHABET.charAt(rest % 32) + time
    rest = Math.floor(rest / 32)
  }
  const bytes = randomBytes16()
  let random = ''
  for (let i = 0; i < 16; i++) random += ALPHABET.charAt((bytes[i] ?? 0) & 31)
  return `${kind}_${time}${random}`
}

const SHAPE = /^[a-z]{2,4}_[0-9a-hjkmnp-tv-z]{26}$/

/** Whether `text` has the form of an id of this kind; a malformed id is answered like a missing one. */
export const isId = <K extends string>(kind: K, text: string): text is `${K}_${string}` =>
  text.startsWith(`${kind}_`) && SHAPE.test(text)
