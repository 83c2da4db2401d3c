import { isLikelySecret, isSecretName, likelySecrets } from './likely-secret.ts'
import { isPlacedSecret, placedSecrets } from './placed-secret.ts'

/** What stands where a secret stood. */
export const MASK = '[secret]'

/** What stands where a path of this machine stood. */
const HOST = '[host]'

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

/** What stood beside a secret is looked at again without it, as often as this: what is left is judged by itself then. */
const ROUNDS = 3

/** Masks secrets in a text; `name` is of the member whose whole value the text is. */
export type Clean = (text: string, name?: string) => string

/** How a masked text was told to be secret: it is one of ours, is spelled like a key, or is named so and looks random. */
export const MASK_KINDS = ['known', 'form', 'likely'] as const
export type MaskKind = (typeof MASK_KINDS)[number]

/** `on` masks all kinds, `known_only` nothing that is a guess. */
export const REDACTIONS = ['on', 'known_only'] as const
export type Redaction = (typeof REDACTIONS)[number]

export interface RedactorOptions {
  /** Masked as they are and as they look in base64, URLs and JSON. */
  secrets: readonly string[]
  redaction?: Redaction
  /** Folders of this machine, which are nobody's business either; no secret is lost with them, and none is counted. */
  folders?: readonly string[]
  /** Hears of each text that something was masked in. */
  onMasked?: (kind: MaskKind, count: number) => void
}

export interface Redactor {
  /** Masks the given secrets and, unless told otherwise, what is likely to be one. Doing it again changes nothing. */
  clean: Clean
  /** Masks the given secrets and nothing else. */
  cleanKnown: Clean
}

/** Pure but for `onMasked`, and linear in the length of a text. */
export function createRedactor(options: RedactorOptions): Redactor {
  const { secrets, redaction = 'on', folders = [], onMasked } = options
  const spellings = [...new Set(secrets.filter(isWorthMasking).flatMap(spellingsOf))]
  // At one place the longest spelling wins, so that nothing of a secret that contains another is left.
  const literals = spellings.toSorted((a, b) => b.length - a.length).map(escaped)
  const known = literals.length === 0 ? null : new RegExp(literals.join('|'), 'g')
  const inFolders = folders.length === 0 ? null : new RegExp(`(?:${folders.map(escaped).join('|')})\\b`, 'g')
  const replaced = (kind: MaskKind, text: string, pattern: RegExp): string => {
    let count = 0
    const masked = text.replace(pattern, () => {
      count++
      return MASK
    })
    if (count > 0) onMasked?.(kind, count)
    return masked
  }
  const likely = (text: string, name: string, rounds = ROUNDS): string => {
    const isWhole = (isSecretName(name) && isLikelySecret(text)) || isPlacedSecret(name, text)
    const found = isWhole
      ? [{ from: 0, to: text.length }]
      : apart([...likelySecrets(text), ...placedSecrets(text)])
    if (found.length === 0) return text
    onMasked?.('likely', found.length)
    const masked = maskedAt(text, found)
    return rounds > 1 ? likely(masked, name, rounds - 1) : masked
  }
  const cleanKnown: Clean = (text) => (known === null ? text : replaced('known', text, known))
  const cleanOurs: Clean = (text) => {
    const masked = cleanKnown(text)
    return inFolders === null ? masked : masked.replace(inFolders, HOST)
  }
  const clean: Clean = (text, name = '') => likely(replaced('form', cleanOurs(text), FORMS), name)
  return { clean: redaction === 'on' ? clean : cleanOurs, cleanKnown }
}

/** In order, those that overlap as one. */
function apart(places: readonly Span[]): Span[] {
  const merged: Span[] = []
  for (const place of places.toSorted((a, b) => a.from - b.from)) {
    const last = merged.at(-1)
    if (last !== undefined && place.from < last.to) last.to = Math.max(last.to, place.to)
    else merged.push({ ...place })
  }
  return merged
}

interface Span {
  from: number
  to: number
}

function maskedAt(text: string, places: readonly Span[]): string {
  let masked = ''
  let done = 0
  for (const { from, to } of places) {
    masked += text.slice(done, from) + MASK
    done = to
  }
  return masked + text.slice(done)
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
