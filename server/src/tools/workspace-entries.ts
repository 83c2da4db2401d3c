import { constants, type Dirent } from 'node:fs'
import { open, opendir } from 'node:fs/promises'
import { type Folder, pathIn, within } from './workspace-folder.ts'

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants

/** Folders that are named but not looked into: nobody wants them in a listing or a search. */
const LEFT_ALONE = new Set(['.git', 'node_modules'])
const ENTRIES_PER_FOLDER = 10_000

export interface Entry {
  folder: Folder
  name: string
  path: string
  kind: 'file' | 'folder' | 'link' | 'other'
  /** False when the walk leaves a folder alone or stops at its depth. */
  entered: boolean
}

/** Every entry below a folder, folders before their content, each folder sorted by name; links not followed. */
export async function* entriesBelow(folder: Folder, depth: number): AsyncGenerator<Entry, void, void> {
  for (const found of await sortedEntries(folder)) {
    const kind = kindOf(found)
    const entered = kind === 'folder' && depth > 1 && !LEFT_ALONE.has(found.name)
    if (found.name === '.git') continue
    yield { folder, name: found.name, path: pathIn(folder, found.name), kind, entered }
    if (!entered) continue
    const handle = await openOrNull(folder, found.name)
    if (handle === null) continue
    try {
      const inner = { handle, path: pathIn(folder, found.name), hostPath: `${folder.hostPath}/${found.name}` }
      yield* entriesBelow(inner, depth - 1)
    } finally {
      await handle.close()
    }
  }
}

async function sortedEntries(folder: Folder): Promise<Dirent[]> {
  const entries: Dirent[] = []
  for await (const entry of await opendir(within(folder, '.'))) {
    entries.push(entry)
    if (entries.length >= ENTRIES_PER_FOLDER) break
  }
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** A folder that vanished, became a link or may not be read is passed over. */
async function openOrNull(folder: Folder, name: string) {
  try {
    return await open(within(folder, name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK)
  } catch {
    return null
  }
}

function kindOf(entry: Dirent): Entry['kind'] {
  if (entry.isFile()) return 'file'
  if (entry.isDirectory()) return 'folder'
  return entry.isSymbolicLink() ? 'link' : 'other'
}

/** Names are the repository's: one that would break its line is quoted. */
export const shownPath = (path: string): string => (/\p{Cc}/u.test(path) ? JSON.stringify(path) : path)
