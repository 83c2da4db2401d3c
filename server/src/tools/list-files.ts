import type { ToolExecutor } from '../domain/tool-call.ts'
import { builtInTool, done, refused } from './definition.ts'
import type { WorkspaceCaps } from './workspace-caps.ts'
import { type Entry, entriesBelow, shownPath } from './workspace-entries.ts'
import { atPlace } from './workspace-folder.ts'

const DEFAULT_DEPTH = 3

export function listFilesTool(root: string, caps: WorkspaceCaps): ToolExecutor {
  return builtInTool({
    name: 'list_files',
    description: `Lists the files of the workspace or of one folder, one path a line; folders end in a slash. Goes ${DEFAULT_DEPTH} levels deep unless depth says otherwise; node_modules is not looked into.`,
    effect: 'read',
    idempotent: true,
    properties: {
      path: { type: 'string', description: 'A folder, relative to the workspace; default: all of it.' },
      depth: { type: 'integer', minimum: 1, maximum: 20 },
    },
    run: (args, signal) =>
      atPlace(root, args.textOrNull('path') ?? '', {
        async use(place) {
          if (place.stats === null) return refused('failed', `${place.path} does not exist.`)
          if (!place.stats.isDirectory()) return refused('failed', `${place.path} is not a folder.`)
          const lines: string[] = []
          let chars = 0
          for await (const entry of entriesBelow(place.folder, args.number('depth', DEFAULT_DEPTH))) {
            if (signal.aborted) return refused('canceled', 'The listing was canceled.')
            const line = shown(entry)
            chars += line.length + 1
            if (lines.length >= caps.entries || chars > caps.answerChars) {
              lines.push(`(there is more; list a folder of it)`)
              break
            }
            lines.push(line)
          }
          return done(lines.join('\n') || '(the folder is empty)')
        },
      }),
  })
}

function shown(entry: Entry): string {
  const path = shownPath(entry.path)
  if (entry.kind === 'folder') return `${path}/${entry.entered ? '' : ' (not looked into)'}`
  if (entry.kind === 'link') return `${path} (symbolic link)`
  return entry.kind === 'file' ? path : `${path} (not a regular file)`
}
