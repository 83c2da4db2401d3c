import { chmod, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

/** Gives ourselves back the folders that an agent closed; links are not followed. */
async function openFolders(path: string): Promise<void> {
  try {
    await chmod(path, 0o700)
    for (const entry of await readdir(path, { withFileTypes: true }))
      if (entry.isDirectory()) await openFolders(join(path, entry.name))
  } catch (error) {
    // A removal that failed at one folder may still be at work on others.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

/** Removes a folder and all below, also when an agent took the permissions away. Missing is fine. */
export async function removeTree(path: string): Promise<void> {
  const options = { recursive: true, force: true, maxRetries: 3 }
  try {
    await rm(path, options)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EACCES' && code !== 'EPERM') throw error
    await openFolders(path)
    await rm(path, options)
  }
}
