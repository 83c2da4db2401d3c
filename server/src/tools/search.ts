import { lstat } from 'node:fs/promises'
import { setImmediate } from 'node:timers/promises'
import type { ToolExecutor, ToolOutcome } from '../domain/tool-call.ts'
import { type Arguments, builtInTool, done, refused } from './definition.ts'
import { type LinearPattern, linearGlob, linearPattern, PatternRefused } from './linear-pattern.ts'
import { clipLine, looksBinary, readCapped } from './read-file.ts'
import type { WorkspaceCaps } from './workspace-caps.ts'
import { type Entry, entriesBelow, shownPath } from './workspace-entries.ts'
import { atPlace, isErrno, openFile, PathRefused, type Place, within } from './workspace-folder.ts'

const DEPTH = 40
/** Only the beginning of an overlong line is searched. */
const SEARCHED_LINE_CHARS = 4_000
const MATCH_CHARS = 300
/** How long the search keeps the process to itself before others get their turn. */
const SLICE_MS = 10

export function searchTool(root: string, caps: WorkspaceCaps): ToolExecutor {
  return builtInTool({
    name: 'search',
    description:
      'Searches the text files of the workspace line by line for a regular expression (RE2 syntax: no look-around, no back references) and gives path:line:text of each match. path narrows it to a folder or file, glob to names such as *.ts or src/**/*.py. Binary files, .git and node_modules are left out.',
    effect: 'read',
    idempotent: true,
    properties: {
      pattern: { type: 'string', minLength: 1, maxLength: 1_000 },
      path: { type: 'string' },
      glob: { type: 'string', minLength: 1, maxLength: 300 },
      ignoreCase: { type: 'boolean' },
      maxResults: { type: 'integer', minimum: 1, maximum: caps.entries },
    },
    required: ['pattern'],
    async run(args, signal) {
      const search = searchOf(args, { caps, signal })
      if (search instanceof PatternRefused)
        return refused('failed', `The pattern or glob cannot be used: ${search.message}.`)
      return atPlace(root, args.textOrNull('path') ?? '', {
        async use(place) {
          if (place.stats === null) return refused('failed', `${place.path} does not exist.`)
          if (place.stats.isDirectory()) await searchFolder(search, place)
          else await searchFile(search, place)
          if (signal.aborted) return refused('canceled', 'The search was canceled.')
          return report(search)
        },
      })
    },
  })
}

interface Search {
  pattern: LinearPattern
  glob: LinearPattern | null
  caps: WorkspaceCaps
  signal: AbortSignal
  most: number
  matches: string[]
  chars: number
  bytes: number
  startedAt: number
  sliceAt: number
  /** Why the search ended before it saw everything. */
  ended: string | null
}

function searchOf(
  args: Arguments,
  { caps, signal }: { caps: WorkspaceCaps; signal: AbortSignal },
): Search | PatternRefused {
  try {
    const glob = args.textOrNull('glob')
    return {
      pattern: linearPattern(args.text('pattern'), { ignoreCase: args.flag('ignoreCase') }),
      glob: glob === null ? null : linearGlob(glob),
      caps,
      signal,
      most: args.number('maxResults', 200),
      matches: [],
      chars: 0,
      bytes: 0,
      startedAt: performance.now(),
      sliceAt: performance.now(),
      ended: null,
    }
  } catch (error) {
    if (error instanceof PatternRefused) return error
    throw error
  }
}

async function searchFolder(search: Search, place: Place): Promise<void> {
  for await (const entry of entriesBelow(place.folder, DEPTH)) {
    if (search.ended !== null || search.signal.aborted) return
    await turn(search)
    if (entry.kind !== 'file' || search.glob?.test(entry.path) === false) continue
    await searchEntry(search, entry)
  }
}

/** A file that vanished or changed its kind since it was listed is passed over. */
async function searchEntry(search: Search, { folder, name, path }: Entry): Promise<void> {
  try {
    await searchFile(search, { folder, name, path, stats: await lstat(within(folder, name)) })
  } catch (error) {
    if (!isErrno(error) && !(error instanceof PathRefused)) throw error
  }
}

async function searchFile(search: Search, place: Place): Promise<void> {
  await using handle = await openFile(place)
  const { bytes } = await readCapped(handle, search.caps.fileBytes)
  search.bytes += bytes.length
  if (search.bytes > search.caps.searchBytes) search.ended = `after ${search.caps.searchBytes} bytes`
  if (looksBinary(bytes)) return
  const text = bytes.toString('utf8')
  for (let start = 0, line = 1; start < text.length && search.ended === null; line++) {
    const newline = text.indexOf('\n', start)
    const end = newline < 0 ? text.length : newline
    const stop = text.charCodeAt(end - 1) === 13 && end > start ? end - 1 : end
    if (search.pattern.test(text.slice(start, Math.min(stop, start + SEARCHED_LINE_CHARS))))
      keep(search, `${shownPath(place.path)}:${line}:${clipLine(text.slice(start, stop), MATCH_CHARS)}`)
    start = end + 1
    await turn(search)
    if (search.signal.aborted) return
  }
}

function keep(search: Search, match: string): void {
  search.chars += match.length + 1
  if (search.chars > search.caps.answerChars) search.ended = 'as the answer is long enough'
  else search.matches.push(match)
  if (search.matches.length >= search.most) search.ended ??= `after ${search.most} matches`
}

function turn(search: Search): Promise<void> | undefined {
  const now = performance.now()
  if (now - search.startedAt > search.caps.searchMs) search.ended ??= `after ${search.caps.searchMs} ms`
  if (now - search.sliceAt < SLICE_MS) return undefined
  return setImmediate().then(() => {
    search.sliceAt = performance.now()
  })
}

function report(search: Search): ToolOutcome {
  const lines = search.matches.length > 0 ? search.matches : ['(no match)']
  return done(
    search.ended === null
      ? lines.join('\n')
      : `${lines.join('\n')}\n(stopped ${search.ended}; narrow the search by path or glob)`,
  )
}
