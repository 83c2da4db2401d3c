/** Text that PostgreSQL accepts: NUL and lone surrogates become U+FFFD. */
export const storable = (text: string): string => text.replaceAll('\0', '\uFFFD').toWellFormed()

/** How JSON writes what PostgreSQL refuses: NUL, and lone surrogates, which `JSON.stringify` escapes. */
const UNSTORABLE_ESCAPE = /\\u(?:0000|d[89a-f])/

/** JSON whose strings PostgreSQL accepts, also after parsing: the escaped forms of the same characters go too. */
export function storableJson(value: unknown): string {
  const text = JSON.stringify(value)
  if (!UNSTORABLE_ESCAPE.test(text)) return text
  return JSON.stringify(value, (_key, member: unknown) =>
    typeof member === 'string' ? storable(member) : member,
  )
}

/** At most `limit` UTF-16 units, keeping the beginning and the end, saying how much was left out. */
export function middleOut(text: string, limit: number): string {
  if (text.length <= limit) return text
  const mark = `\n[… ${text.length - limit} characters left out …]\n`
  const head = Math.ceil((limit - mark.length) / 2)
  const tail = Math.floor((limit - mark.length) / 2)
  if (head <= 0) return text.slice(0, limit)
  return text.slice(0, head) + mark + text.slice(text.length - tail)
}
