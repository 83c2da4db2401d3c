/** The last words of a name that says its value is secret: `DB_PASSWORD`, `client-secret`, `secretAccessKey`. */
const NAME =
  '(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|credentials?|authorization|auth|secret[_-]?key[_-]?base|' +
  '(?:api|access|account|auth|client|encryption|master|private|secret|shared|signing)[_-]?key)'

/** What stands between a name and its value in code, JSON, YAML, XML, headers, query strings and settings. */
const SIGN =
  '["\'\\\\]{0,4}[ \\t]{0,4}(?::[ \\t]{0,4}[A-Za-z]{1,16}[ \\t]{0,4}=|=>|:=|={1,3}|[:>])[ \\t]{0,4}'
const SCHEME = '(?:(?:Bearer|Basic|Token)[ \\t]{1,4})'
const OPTION = '(?<=--[\\w-]{1,60})[ \\t]{1,4}'
const QUOTES = '["\'`\\\\]{0,4}'
const VALUE = '[!#$%*+\\-./0-9:=?@A-Z^_a-z|~]'

/** How much of a value is looked at; every part is bounded, so that looking takes linear time. */
const JUDGED = 64

const ASSIGNED = new RegExp(
  `(?:(?:${NAME}(?:${SIGN}|${OPTION})${QUOTES}${SCHEME}?)|\\b${SCHEME})(${VALUE}{12,${JUDGED}})`,
  'gi',
)
const REST = new RegExp(`${VALUE}*`, 'y')

/** The password in the address of a server. */
const IN_ADDRESS = new RegExp(`://[^\\s/:@"'<>]{0,64}:([!-.0-?A-~]{12,256})@`, 'g')

const ENDS_IN_NAME = new RegExp(`${NAME}$`, 'i')

/** Whether a value of this name is meant to be secret. */
export const isSecretName = (name: string): boolean => ENDS_IN_NAME.test(name)

/** Where values stand that are named as secret and look as if chance had made them, in order. */
export function likelySecrets(text: string): { from: number; to: number }[] {
  const found: { from: number; to: number }[] = []
  ASSIGNED.lastIndex = 0
  for (let match = ASSIGNED.exec(text); match !== null; match = ASSIGNED.exec(text)) {
    const value = match[1] ?? ''
    const from = ASSIGNED.lastIndex - value.length
    if (isLikelySecret(value)) {
      REST.lastIndex = ASSIGNED.lastIndex
      REST.test(text)
      ASSIGNED.lastIndex = Math.max(ASSIGNED.lastIndex, REST.lastIndex)
      found.push({ from, to: ASSIGNED.lastIndex })
    } else ASSIGNED.lastIndex = from
  }
  for (const match of text.matchAll(IN_ADDRESS)) {
    const value = match[1] ?? ''
    const to = match.index + match[0].length - 1
    if (isLikelySecret(value)) found.push({ from: to - value.length, to })
  }
  return found.toSorted((a, b) => a.from - b.from)
}

/** A word that announces a secret, with what may stand between it and the secret. */
const ANNOUNCED = new RegExp(
  `\\S*(?:(?:${NAME}|Bearer|Basic)[^\\n]{0,48}|\\b(?:curl|wget|sshpass|mysql|mariadb)\\b[^\\n]{0,224})$`,
  'i',
)
const ANNOUNCED_CHARACTERS = 256

/** How much of a text that still grows cannot be part of a secret whose end is to come. */
export function settledLength(text: string): number {
  const word = Math.max(text.lastIndexOf(' '), text.lastIndexOf('\n')) + 1
  const key = text.lastIndexOf('-----BEGIN ')
  if (key >= 0 && !/-----END [^\n]{1,80}-----/.test(text.slice(key, word))) return key
  const line = Math.max(text.lastIndexOf('\n', word - 1) + 1, word - ANNOUNCED_CHARACTERS)
  const announced = ANNOUNCED.exec(text.slice(line, word))
  return announced === null ? word : line + announced.index
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
const OWN_ID = /^[a-z]{2,5}_[0-9a-hjkmnp-tv-z]{26}$/
const CHECKSUM = /^(sha\d{1,3}|md5)[-:]/i
/** Numbers, dates, versions. */
const FIGURES = /^[\d.:+\-TZ_/]+$/
const HEX = /^[0-9a-f]+$/i

const MIN_CHARACTERS = 12
/** Twelve random bytes; anything shorter in hex is a name for something. */
const MIN_HEX_CHARACTERS = 24
/** Without a digit a value has to be longer, and further from words. */
const MIN_LETTERS = 16
const MIN_BITS_PER_CHARACTER = 3

/** Whether chance made this value: many different characters, and letters that do not follow each other as in words. */
export function isLikelySecret(value: string): boolean {
  const judged = value.slice(0, JUDGED).replace(/[.:?!=]+$/, '')
  if (judged.length < MIN_CHARACTERS || /^[$%]|:\/\//.test(judged)) return false
  if ([UUID, OWN_ID, CHECKSUM, FIGURES].some((form) => form.test(judged))) return false
  if (bitsPerCharacter(judged) < MIN_BITS_PER_CHARACTER) return false
  if (HEX.test(judged)) return judged.length >= MIN_HEX_CHARACTERS
  if (/\d/.test(judged)) return wordiness(judged) < 0.5
  return judged.length >= MIN_LETTERS && wordiness(judged) < 0.35
}

/** Shannon's, of the characters as they are spread here. */
function bitsPerCharacter(text: string): number {
  const counts = new Map<string, number>()
  for (const character of text) counts.set(character, (counts.get(character) ?? 0) + 1)
  let bits = 0
  for (const count of counts.values()) bits -= (count / text.length) * Math.log2(count / text.length)
  return bits
}

/** The pairs of letters that make up three quarters of English words and of names in code, and a fifth of random text. */
const COMMON_PAIRS = new Set(
  (
    'aa ab ac ad ag ai al am an ap ar as at au ba bb bc be bl ca cb ce ch ck cl co ct da de di ea eb ec ed ef el em ' +
    'en ep eq er es et ex fa fi fo ge ha he hi ia ic id ie ig il im in io is it ke la le li ll lo ma me mo mp na nc ' +
    'nd ne ng no ns nt oc od ol om on op or ot ou pa pe pl po pr pt qa qu ra re rg ri ro rr rs rt sc se si so sp ss ' +
    'st ta te th ti to tr ts ty ue ul un ur us ut va ve xp yp'
  ).split(' '),
)

/** The part of its neighbouring letters that are neighbours in words too. */
function wordiness(text: string): number {
  const pairs = [...text.matchAll(/(?=([A-Za-z][a-z]|[A-Z]{2}))/g)]
  if (pairs.length < 3) return 0
  return pairs.filter(([, pair = '']) => COMMON_PAIRS.has(pair.toLowerCase())).length / pairs.length
}
