import type { FileHandle } from 'node:fs/promises'
import type { ToolExecutor, ToolOutcome } from '../domain/tool-call.ts'
import { builtInTool, done, refused } from './definition.ts'
import type { WorkspaceCaps } from './workspace-caps.ts'
import { atPlace, openFile } from './workspace-folder.ts'

/** What is in a file; `whole` is false when it goes on past the cap. */
export interface FileBytes {
  bytes: Buffer
  whole: boolean
}

/** At most `cap` bytes from the start, whatever size the file claims to have. */
export async function readCapped(handle: FileHandle, cap: number): Promise<FileBytes> {
  const chunks: Buffer[] = []
  let length = 0
  while (length <= cap) {
    const chunk = Buffer.allocUnsafe(Math.min(64 * 1024, cap + 1 - length))
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, length)
    if (bytesRead === 0) return { bytes: Buffer.concat(chunks), whole: true }
    chunks.push(chunk.subarray(0, bytesRead))
    length += bytesRead
  }
  return { bytes: Buffer.concat(chunks).subarray(0, cap), whole: false }
}

export const looksBinary = (bytes: Buffer): boolean => bytes.subarray(0, 8192).includes(0)

export const clipLine = (line: string, chars: number): string =>
  line.length <= chars ? line : `${line.slice(0, chars)}[… ${line.length - chars} more characters]`

export function readFileTool(root: string, caps: WorkspaceCaps): ToolExecutor {
  return builtInTool({
    name: 'read_file',
    description:
      'Reads a text file of the workspace. Each line comes with its number and a tab, which are not part of the file. Give startLine and endLine (both counted from 1, inclusive) for a part of a long file.',
    effect: 'read',
    idempotent: true,
    properties: {
      path: { type: 'string', description: 'Relative to the workspace.' },
      startLine: { type: 'integer', minimum: 1 },
      endLine: { type: 'integer', minimum: 1 },
    },
    required: ['path'],
    run: (args) =>
      atPlace(root, args.text('path'), {
        async use(place) {
          await using handle = await openFile(place)
          const { bytes, whole } = await readCapped(handle, caps.fileBytes)
          if (looksBinary(bytes))
            return refused('failed', `${place.path} is a binary file of ${place.stats?.size} bytes.`)
          const range = {
            from: args.number('startLine', 1),
            to: args.number('endLine', Number.MAX_SAFE_INTEGER),
          }
          return numbered(bytes.toString('utf8'), { ...range, whole, caps })
        },
      }),
  })
}

function numbered(
  text: string,
  { from, to, whole, caps }: { from: number; to: number; whole: boolean; caps: WorkspaceCaps },
): ToolOutcome {
  if (to < from) return refused('failed', 'endLine is before startLine.')
  const lines = text.split('\n')
  if (lines.at(-1) === '') lines.pop()
  const total = whole ? `${lines.length}` : `more than ${lines.length}`
  if (lines.length === 0) return done('(the file is empty)')
  if (from > lines.length)
    return refused('failed', `The file has ${total} lines; startLine ${from} is past them.`)
  const shown: string[] = []
  let chars = 0
  for (let at = from; at <= Math.min(to, lines.length); at++) {
    const line = `${at}\t${clipLine(lines[at - 1] ?? '', caps.lineChars)}`
    chars += line.length + 1
    if (chars > caps.answerChars) break
    shown.push(line)
  }
  const last = from + shown.length - 1
  const cut = last < Math.min(to, lines.length) || (!whole && last === lines.length)
  return done(cut ? `${shown.join('\n')}\n[lines ${from} to ${last} of ${total}]` : shown.join('\n'))
}
