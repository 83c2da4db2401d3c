import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Makes a folder that nobody else may read, and its parents. Root's may be passed through, for the users that its
 * database and its jails run as. Throws what the system says; where a folder can never be (`/proc/x`), Node's own way of
 * making parents does not end.
 */
export async function makeOwnFolder(path: string): Promise<void> {
  try {
    await makeOne(path)
  } catch (error) {
    if (!isMissing(error) || (await isFolder(dirname(path)))) throw error
    await makeOwnFolder(dirname(path))
    await makeOne(path)
  }
}

async function makeOne(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: process.getuid?.() === 0 ? 0o711 : 0o700 })
  } catch (error) {
    if (!(await isFolder(path))) throw error
  }
}

const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )

const isMissing = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'ENOENT'
