import { randomFillSync } from 'node:crypto'

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
/** Two characters for each ten bits. */
const PAIRS = Array.from(
  { length: 1024 },
  (_, bits) => ALPHABET.charAt(bits >> 5) + ALPHABET.charAt(bits & 31),
)
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))
const POOL = new DataView(new ArrayBuffer(16 * 1024))
let used = POOL.byteLength

/** Where the next `count` random bytes stand in the pool: asking the system for each id would cost more than the id. */
function draw(count: number): number {
  if (used + count > POOL.byteLength) {
    randomFillSync(POOL)
    used = 0
  }
  used += count
  return used - count
}

/** Random bytes in lower-case hexadecimal digits, two for each. */
export function randomHex(bytes: number): string {
  const at = draw(bytes)
  let text = ''
  for (let i = 0; i < bytes; i++) text += HEX[POOL.getUint8(at + i)]
  return text
}

/** 64 random bits. */
export const randomInt64 = (): bigint => POOL.getBigInt64(draw(8))

let timeMs = -1
let timeText = ''

/** 48 bits of time in ten characters; ids of one moment come in numbers. */
function timePart(atMs: number): string {
  if (atMs === timeMs) return timeText
  let text = ''
  for (let rest = atMs, i = 0; i < 10; i++) {
    text = ALPHABET.charAt(rest % 32) + text
    rest = Math.floor(rest / 32)
  }
  timeMs = atMs
  timeText = text
  return text
}

/** Forty random bits in eight characters. */
function randomPart(): string {
  const at = draw(5)
  const [high, low] = [
    POOL.getUint32(at) >>> 12,
    ((POOL.getUint16(at + 2) & 0xfff) << 8) | POOL.getUint8(at + 4),
  ]
  return `${PAIRS[high >> 10]}${PAIRS[high & 1023]}${PAIRS[low >> 10]}${PAIRS[low & 1023]}`
}

/**
 * `<kind>_` and 26 lower-case Crockford base32 characters: 48 bits of time (milliseconds), so that ids sort
 * by creation, then 80 random bits.
 */
export function newId<K extends string>(kind: K, atMs: number): `${K}_${string}` {
  return `${kind}_${timePart(atMs)}${randomPart()}${randomPart()}`
}

const SHAPE = /^[a-z]{2,4}_[0-9a-hjkmnp-tv-z]{26}$/

/** Whether `text` has the form of an id of this kind; a malformed id is answered like a missing one. */
export const isId = <K extends string>(kind: K, text: string): text is `${K}_${string}` =>
  text.startsWith(`${kind}_`) && SHAPE.test(text)
