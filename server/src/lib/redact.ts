/** What stands where a secret stood. */
export const MASK = '[secret]'

/**
 * Forms of credentials that carry their kind in their spelling, as patterns of the least that gives one away.
 * Each begins with fixed letters and repeats only a bounded number of times, so that looking takes linear time.
 */
export const SECRET_FORMS: readonly string[] = [
  '\\b(AKIA|ASIA)[0-9A-Z]{16}\\b',
  '\\bgh[pousr]_[A-Za-z0-9]{36}',
  '\\bgithub_pat_[A-Za-z0-9_]{22}',
  '\\bglpat-[A-Za-z0-9_-]{20}',
  '\\bnpm_[A-Za-z0-9]{36}\\b',
  '\\bsk-[A-Za-z0-9_-]{32}',
  '\\b(sk|rk)_live_[A-Za-z0-9]{16}',
  '\\bxox[abeprs]-[A-Za-z0-9-]{10}',
  '\\bAIza[0-9A-Za-z_-]{35}',
  '\\b(org|ten)_(live|test)_[A-Za-z0-9]{16}',
  '\\bwhsec_[A-Za-z0-9+/]{32}',
  '-----BEGIN ([A-Z0-9]{1,20} ){0,4}PRIVATE KEY( BLOCK)?-----',
]

/** From where a form begins to where the secret ends: the rest of the token, for a private key its whole block. */
const REST = '(?:(?<=-----)[\\s\\S]*?(?:-----END [A-Z0-9 ]{0,80}-----|$)|[A-Za-z0-9_+/=-]*)'

const FORMS = new RegExp(`(?:${SECRET_FORMS.join('|')})${REST}`, 'g')

/** Shorter values are words of the language: masking them would spoil the text and hide nothing. */
const MIN_SECRET_CHARACTERS = 6

/**
 * Masks the given secrets in a text, as they are and as they look in base64, URLs and JSON, and whatever is spelled
 * like a key. Pure, and linear in the length of the text.
 */
export function redactor(secrets: readonly string[]): (text: string) => string {
  const spellings = [...new Set(secrets.filter(isWorthMasking).flatMap(spellingsOf))]
  // At one place the longest spelling wins, so that nothing of a secret that contains another is left.
  const literals = spellings.toSorted((a, b) => b.length - a.length).map(escaped)
  const known = literals.length === 0 ? null : new RegExp(literals.join('|'), 'g')
  return (text) => (known === null ? text : text.replace(known, MASK)).replace(FORMS, MASK)
}

const isWorthMasking = (secret: string): boolean => secret.length >= MIN_SECRET_CHARACTERS

const escaped = (literal: string): string => literal.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')

function spellingsOf(secret: string): string[] {
  const inUrl = encodeURIComponent(secret)
  const inForm = inUrl.replaceAll('%20', '+')
  const lowered = inUrl.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase())
  const inJson = JSON.stringify(secret).slice(1, -1)
  const inBase64 = [0, 1, 2].flatMap((offset) => base64At(secret, offset))
  return [secret, inUrl, inForm, lowered, inJson, ...inBase64]
}

/**
 * The part of a base64 text that the secret alone decides when it begins at this offset (modulo 3) of the plain
 * text, such as the password behind a user's name and a colon; also in the alphabet of URLs.
 */
function base64At(secret: string, offset: number): string[] {
  const bytes = Buffer.concat([Buffer.alloc(offset), Buffer.from(secret)])
  const whole = Math.floor((bytes.length * 8) / 6)
  const core = bytes.toString('base64').slice(Math.ceil((offset * 8) / 6), whole)
  return core.length < MIN_SECRET_CHARACTERS ? [] : [core, core.replaceAll('+', '-').replaceAll('/', '_')]
}
