import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { open, rename, unlink } from 'node:fs/promises'
import type { ToolExecutor } from '../domain/tool-call.ts'
import { builtInTool, done, refused } from './definition.ts'
import { looksBinary, readCapped } from './read-file.ts'
import type { WorkspaceCaps } from './workspace-caps.ts'
import { atPlace, openFile, PathRefused, type Place, within } from './workspace-folder.ts'

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants

/** Gives a file or folder that a tool made to whoever the agent's commands run as. Takes a host path. */
export type Own = (hostPath: string) => Promise<void>

/** Replaces the file at a place, all or nothing. The mode stays, without set-id bits; a new file gets 0644. */
async function replaceFile(place: Place, text: string, own: Own): Promise<void> {
  const temporary = `.agentgate-${randomUUID()}`
  const target = within(place.folder, temporary)
  const handle = await open(target, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
  try {
    await handle.writeFile(text)
    await own(`${place.folder.hostPath}/${temporary}`)
    await handle.chmod(place.stats ? place.stats.mode & 0o777 : 0o644)
    await rename(target, within(place.folder, place.name))
  } catch (error) {
    await unlink(target)
    throw error
  } finally {
    await handle.close()
  }
}

function refuseOddTarget(place: Place): void {
  if (place.stats?.isDirectory()) throw new PathRefused(`${place.path || '.'} is a folder.`, 'failed')
  if (place.stats !== null && !place.stats.isFile())
    throw new PathRefused(`${place.path} is not a regular file.`)
}

export function writeFileTool(root: string, caps: WorkspaceCaps, own: Own): ToolExecutor {
  return builtInTool({
    name: 'write_file',
    description:
      'Writes a text file of the workspace, whole: what was in it is replaced. Missing folders are made. To change a part of a file use edit_file.',
    effect: 'workspace',
    idempotent: true,
    properties: {
      path: { type: 'string', description: 'Relative to the workspace.' },
      content: { type: 'string' },
    },
    required: ['path', 'content'],
    run(args) {
      const content = args.text('content')
      const bytes = Buffer.byteLength(content)
      if (bytes > caps.fileBytes) return Promise.resolve(tooLarge(bytes, caps))
      return atPlace(root, args.text('path'), {
        create: own,
        async use(place) {
          refuseOddTarget(place)
          await replaceFile(place, content, own)
          return done(`${place.stats ? 'Replaced' : 'Created'} ${place.path} (${bytes} bytes).`)
        },
      })
    },
  })
}

export function editFileTool(root: string, caps: WorkspaceCaps, own: Own): ToolExecutor {
  return builtInTool({
    name: 'edit_file',
    description:
      'Replaces a piece of a text file of the workspace by another. oldText must be exactly what stands in the file, white space included and line numbers left out, and must stand there once; with replaceAll every occurrence is replaced.',
    effect: 'workspace',
    idempotent: false,
    properties: {
      path: { type: 'string', description: 'Relative to the workspace.' },
      oldText: { type: 'string', minLength: 1 },
      newText: { type: 'string' },
      replaceAll: { type: 'boolean' },
    },
    required: ['path', 'oldText', 'newText'],
    run: (args) =>
      atPlace(root, args.text('path'), {
        async use(place) {
          const text = await readEditable(place, caps)
          if (typeof text !== 'string') return text
          const edit = fitted(text, args.text('oldText'), args.text('newText'))
          const parts = text.split(edit.from)
          const found = parts.length - 1
          if (found === 0) return refused('failed', `oldText does not stand in ${place.path}. Read it again.`)
          if (found > 1 && !args.flag('replaceAll'))
            return refused(
              'failed',
              `oldText stands ${found} times in ${place.path}. Give more of the text around it, or replaceAll.`,
            )
          const edited = parts.join(edit.to)
          if (edited === text) return refused('failed', 'oldText and newText are the same.')
          const bytes = Buffer.byteLength(edited)
          if (bytes > caps.fileBytes) return tooLarge(bytes, caps)
          await replaceFile(place, edited, own)
          return done(`Replaced ${found === 1 ? 'one place' : `${found} places`} in ${place.path}.`)
        },
      }),
  })
}

/** The file as text that can be written back without loss, or why it is none. */
async function readEditable(place: Place, caps: WorkspaceCaps) {
  await using handle = await openFile(place)
  const { bytes, whole } = await readCapped(handle, caps.fileBytes)
  if (!whole) return tooLarge(place.stats?.size ?? bytes.length, caps)
  const text = bytes.toString('utf8')
  if (looksBinary(bytes) || !Buffer.from(text).equals(bytes))
    return refused('failed', `${place.path} is not UTF-8 text.`)
  return text
}

/** A model writes plain line ends; in a file with CRLF they mean the file's own. */
function fitted(text: string, from: string, to: string): { from: string; to: string } {
  if (text.includes(from) || !text.includes('\r\n')) return { from, to }
  const crlf = (piece: string): string => piece.replaceAll(/\r?\n/g, '\r\n')
  return { from: crlf(from), to: crlf(to) }
}

const tooLarge = (bytes: number, caps: WorkspaceCaps) =>
  refused('failed', `${bytes} bytes are more than these tools handle (${caps.fileBytes}).`)
