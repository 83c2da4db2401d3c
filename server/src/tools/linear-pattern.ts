import { RE2JS } from 're2js'

const MAX_PATTERN_CHARS = 1_000
/** Bounds the size of the compiled automaton, and with it the time per character. */
const MAX_REPEATS = 200

/** A pattern in RE2 syntax: matched in time linear in the text, whatever the pattern. */
export interface LinearPattern {
  test(text: string): boolean
}

/** The pattern cannot be used; the message says why. */
export class PatternRefused extends Error {
  override readonly name = 'PatternRefused'
}

/** Compiles a pattern that somebody untrusted wrote. */
export function linearPattern(source: string, options: { ignoreCase?: boolean } = {}): LinearPattern {
  if (source.length > MAX_PATTERN_CHARS)
    throw new PatternRefused(`the pattern is longer than ${MAX_PATTERN_CHARS} characters`)
  let repeats = 0
  for (const [, least, most] of source.matchAll(/\{(\d+)(?:,(\d*))?\}/g)) repeats += Number(most || least)
  if (repeats > MAX_REPEATS)
    throw new PatternRefused(`the counted repeats of the pattern add up to more than ${MAX_REPEATS}`)
  try {
    return RE2JS.compile(source, options.ignoreCase ? RE2JS.CASE_INSENSITIVE : 0)
  } catch (cause) {
    throw new PatternRefused(cause instanceof Error ? cause.message : 'the pattern is not RE2 syntax', {
      cause,
    })
  }
}

/**
 * A glob over paths with slashes: `*` and `?` inside one name, `**` across folders, `{a,b}`. A glob without a
 * slash is for the name alone, wherever the file is.
 */
export function linearGlob(glob: string): LinearPattern {
  const anywhere = glob.includes('/') ? glob.replace(/^\.?\//, '') : `**/${glob}`
  let source = ''
  let open = 0
  for (const [token] of anywhere.matchAll(/\*\*\/|\*\*|[^]/gu)) {
    if (token === '**/') source += '(?:.*/)?'
    else if (token === '**') source += '.*'
    else if (token === '*') source += '[^/]*'
    else if (token === '?') source += '[^/]'
    else if (token === '{') {
      source += '(?:'
      open += 1
    } else if (token === '}' && open > 0) {
      source += ')'
      open -= 1
    } else source += token === ',' && open > 0 ? '|' : RE2JS.quote(token)
  }
  return linearPattern(`^${source}${')'.repeat(open)}$`)
}
