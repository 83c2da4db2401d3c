/**
 * Passwords that people made up. Nothing about the value gives one away, only the place where it stands: a line of
 * settings, an address, a header, an option of a command. The same words are names of types, labels and texts in code
 * and in speech, so each place is narrow, and says what a value has to be there.
 */

const NAME = '(?:password|passwd|passphrase|[_.-]pwd|[_.-]pass)'
const LOUD_NAME = '[A-Z0-9_]{0,64}(?:PASSWORD|PASSWD|PASSPHRASE|_PWD|_PASS|_SECRET)'
const VALUE = '[!#%*+\\-./0-9:=?@A-Z^_a-z|~]'
/** Of search results, numbered files and diffs. */
const MARGIN = '(?:[\\w./-]{1,200}:\\d{1,7}[:-]|\\d{1,7}\\t)?[ \\t]{0,64}(?:[+-][ \\t]{0,64})?(?:- )?'
/** Of all that can be a value, so that there is one place to look for a comment, which stands apart from it. */
const END_OF_LINE = `(?!${VALUE})(?=[ \\t]{0,64}(?:(?<=[ \\t])#[^\\n]{0,500})?\\r?$)`

/** A pattern whose last group is the value. Every part is bounded, so that looking takes linear time. */
interface Place {
  pattern: RegExp
  holds: (value: string, match: RegExpExecArray) => boolean
}

const PLACES: readonly Place[] = [
  {
    // `DB_PASSWORD=swordfish`, as in `.env` and before a command.
    pattern: new RegExp(`(?<!\\w)${LOUD_NAME}=["']?(${VALUE}{6,128})(?!${VALUE}|[([{<$])`, 'dg'),
    holds: (value) => !isCode(value),
  },
  {
    // `DB_PASSWORD: swordfish` as all there is on the line.
    pattern: new RegExp(`^${MARGIN}${LOUD_NAME}:[ \\t]{1,8}(${VALUE}{6,128})${END_OF_LINE}`, 'dg'),
    holds: (value) => !isCode(value),
  },
  {
    // `password = hunter2horse` and `password: correct-horse` as all there is on the line.
    pattern: new RegExp(
      `^${MARGIN}[\\w.-]{0,64}${NAME}[ \\t]{0,8}[:=][ \\t]{0,8}(${VALUE}{6,128})${END_OF_LINE}`,
      'dgi',
    ),
    holds: (value) => !isCode(value) && /[^A-Za-z_.]/.test(value),
  },
  {
    // `"password": "correct-horse"`; without quotes around the name it is code, whose tests are full of them.
    pattern: new RegExp(
      `(?<![\\w.-])(["'])[\\w.-]{0,64}${NAME}\\\\?\\1[ \\t]{0,8}(?::|=>|:=|={1,3})[ \\t]{0,8}\\\\?(["'\`])([!#%&(-;=?-Z^_a-z|~]{6,128})\\\\?\\2`,
      'dgi',
    ),
    holds: isDataPassword,
  },
  {
    pattern: new RegExp(`<[\\w:-]{0,64}${NAME}>(${VALUE}{6,128})</`, 'dgi'),
    holds: isMixed,
  },
  {
    pattern: new RegExp(
      `\\bauthorization["'\\\\]{0,2}[ \\t]{0,4}[:=,][ \\t]{0,4}["'\`\\\\]{0,2}(?:Bearer|Basic|Token)[ \\t]{1,4}(${VALUE}{4,256})(?=["'\`\\\\]|\\r?$)`,
      'dgi',
    ),
    holds: (value) => !/token/i.test(value),
  },
  {
    // The password in an address, where it is not the user's name again.
    pattern: /:\/\/([^\s/:@"'`<>[\]{}$]{0,64}):([^\s/@"'`<>[\]{}$]{4,256})@(?=[\w.[-])/dg,
    holds: (value, [, user]) => value !== user,
  },
  {
    pattern: new RegExp(
      `[ \\t](?:-u|-U|--user|--proxy-user)(?<=\\b(?:curl|wget|https?)\\b[^\\n]{0,200})[ \\t=]{0,4}["']?([^\\s:"']{1,64}):(${VALUE}{4,128})`,
      'dg',
    ),
    holds: (value, [, user]) => value !== user && !isCode(value),
  },
  {
    pattern: new RegExp(
      `(?:\\bsshpass[ \\t]{1,4}-p[ \\t]{0,4}|[ \\t]-p(?<=\\b(?:mysql|mariadb)\\w{0,16}[ \\t][^\\n]{0,200}))["']?(${VALUE}{4,128})`,
      'dg',
    ),
    holds: () => true,
  },
  {
    pattern: new RegExp(`[ \\t]--[\\w-]{0,64}(?:password|passwd|passphrase)=["']?(${VALUE}{6,128})`, 'dg'),
    holds: (value) => !isCode(value),
  },
  {
    pattern: new RegExp(
      `[ \\t]--[\\w-]{0,64}(?:password|passwd|passphrase)[ \\t]{1,4}["']?(${VALUE}{6,128})`,
      'dg',
    ),
    holds: isMixed,
  },
]

/** A line without any of these has no place. Most lines of most texts are not looked at twice. */
const HINT =
  /passw|passphrase|[_.-]pwd|[_.-]pass|_SECRET|authorization|:\/\/|curl|wget|sshpass|mysql|mariadb/gi

/** Where the text has what only its place gives away, line by line; what two places give away is there twice. */
export function placedSecrets(text: string): Span[] {
  const found: Span[] = []
  HINT.lastIndex = 0
  for (let hint = HINT.exec(text); hint !== null; hint = HINT.exec(text)) {
    const start = text.lastIndexOf('\n', hint.index) + 1
    const end = text.indexOf('\n', hint.index)
    const line = text.slice(start, end < 0 ? text.length : end)
    for (const { from, to } of inLine(line)) found.push({ from: start + from, to: start + to })
    HINT.lastIndex = start + line.length
  }
  return found
}

const inLine = (line: string): Span[] =>
  PLACES.flatMap(({ pattern, holds }) =>
    [...line.matchAll(pattern)].flatMap((match) => {
      const value = match.at(-1) ?? ''
      const [from, to] = match.indices?.at(-1) ?? [0, 0]
      return !isStandIn(value) && holds(value, match) ? [{ from, to }] : []
    }),
  )

interface Span {
  from: number
  to: number
}

const ENDS_IN_NAME = new RegExp(`${NAME}$`, 'i')

/** Whether the whole value of a member of this name is a password. */
export const isPlacedSecret = (name: string, value: string): boolean =>
  ENDS_IN_NAME.test(name) &&
  /^[!-~]{6,128}$/.test(value) &&
  !/[$<>[\]{}]/.test(value) &&
  !isStandIn(value) &&
  isDataPassword(value)

/** Has more in it than words, of any form. */
function isMixed(value: string): boolean {
  return /[A-Za-z]/.test(value) && /[^A-Za-z\-_./:]/.test(value) && !isCode(value)
}

/** In data, where no code and no classes of styles are, words may be joined. */
function isDataPassword(value: string): boolean {
  return /[A-Za-z]/.test(value) && /[^A-Za-z_./:]/.test(value) && !isCode(value)
}

/** A path, a variable, a pattern, rules, a member of an object, a name in camel case, an algorithm, a figure. */
const isCode = (value: string): boolean =>
  /^[/.~$%@&*^#]|\||^[\w/]+#\w+$/.test(value) ||
  /^[A-Za-z_]\w*(?:(?:\.|::|->)[A-Za-z_]\w*)+$/.test(value) ||
  /^[a-z]+\d*[A-Z][a-z]\w*$/.test(value) ||
  /^(?:sha|md|aes|rsa|utf|base|argon|pbkdf|bcrypt|scrypt|hmac)[-_]?\d/i.test(value) ||
  /^v?[\d.:+\-TZ_/]+$/.test(value)

/** What people write where a password is to come: no real one is expected to hold these words. */
const STAND_IN_PARTS =
  /passw|passphrase|secret|credential|example|sample|placeholder|change[-_]?(?:me|this|it)|your|redacted|dummy|replace|hidden|masked|default|insert|enter|^test|^fake|^mock/i

/** Types, and what everybody's first settings say. */
const STAND_INS = new Set(
  (
    'string number boolean object unknown undefined null none nil true false optional required empty value text ' +
    'prompt pass user username name login guest root admin administrator postgres postgresql mysql mariadb mongo ' +
    'mongodb redis rabbitmq valid invalid token tokens pass123 foobar foobarbaz qwerty welcome letmein'
  ).split(' '),
)

/** Stands where a password is to be put, or is known to everybody. */
const isStandIn = (value: string): boolean =>
  STAND_INS.has(value.toLowerCase()) || STAND_IN_PARTS.test(value) || new Set(value).size < 4
