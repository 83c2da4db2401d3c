import { RE2JS } from 're2js'

/** A pattern that cannot be used; the message ends a sentence that begins with its place. */
export class PatternRefused extends Error {
  override readonly name = 'PatternRefused'
}

/** The most one pattern may cost: RE2's own measure, about its number of states. */
const PROGRAM_LIMIT = 2_000
const LENGTH_LIMIT = 1_000

/** Compiles RE2 syntax, which is matched in linear time whatever the text; there is no look-around. */
export function compilePattern(pattern: string): RE2JS {
  if (pattern === '' || pattern.length > LENGTH_LIMIT) {
    throw new PatternRefused(`must have 1 to ${LENGTH_LIMIT} characters`)
  }
  const compiled = compile(pattern)
  if (compiled.programSize() > PROGRAM_LIMIT) throw new PatternRefused('is too large: repeat less')
  return compiled
}

/**
 * Compiles a glob over paths relative to the repository's root: `*` and `?` stay inside a segment, `**` crosses
 * segments, `{a,b}` and `[a-z]` choose, a trailing `/` means everything below. Dot files match like others.
 *
 * A glob becomes an RE2 program and not a JavaScript expression: globs and file names both come from
 * repositories, and a glob with many stars makes a backtracking engine hang.
 */
export function compileGlob(glob: string): RE2JS {
  if (glob === '' || glob.length > LENGTH_LIMIT) {
    throw new PatternRefused(`must have 1 to ${LENGTH_LIMIT} characters`)
  }
  if (/^\/|^\.\.?\/|\/\.\.?(\/|$)/.test(glob)) {
    throw new PatternRefused("must be relative to the repository's root, without `.` and `..`")
  }
  const compiled = compile(`(?s)^${globSource(glob.endsWith('/') ? `${glob}**` : glob)}$`)
  if (compiled.programSize() > PROGRAM_LIMIT) throw new PatternRefused('is too large')
  return compiled
}

const TOKEN = /\*\*\/|\*+|\?|\{|\}|,|\[[!^]?[^\]/]+\]|\\.|[^*?{},[\\]+|[\s\S]/g

function globSource(glob: string): string {
  let source = ''
  let depth = 0
  for (const [token] of glob.matchAll(TOKEN)) {
    if (token === '{') depth++
    if (token === '}' && --depth < 0) throw new PatternRefused('has a `}` without its `{`')
    source += tokenSource(token, depth)
  }
  if (depth > 0) throw new PatternRefused('has a `{` without its `}`')
  return source
}

function tokenSource(token: string, depth: number): string {
  if (token === '**/') return '(?:.*/)?'
  if (token === '**') return '.*'
  if (token.startsWith('*')) return '[^/]*'
  if (token === '?') return '[^/]'
  if (token === '{') return '(?:'
  if (token === '}') return ')'
  if (token === ',' && depth > 0) return '|'
  if (token.length > 2 && token.startsWith('[')) {
    return `[${token.slice(1, -1).replace(/^[!^]/, '^').replace(/[\\[]/g, '\\$&')}]`
  }
  return RE2JS.quote(token.length === 2 && token.startsWith('\\') ? token.slice(1) : token)
}

function compile(source: string): RE2JS {
  try {
    return RE2JS.compile(source)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new PatternRefused(`is not a usable pattern (RE2 syntax): ${reason}`)
  }
}
