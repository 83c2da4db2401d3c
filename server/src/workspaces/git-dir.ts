import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { replaceFile } from '../lib/replace-file.ts'

const STORE_CONFIG = '[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n'

/**
 * Makes an empty git directory that reads a mirror's objects instead of having copies, or leaves the one that is
 * there as it is. `head` is a name that git allows for a branch. What `git init` would do, without starting it.
 */
export async function createGitDir(
  gitDir: string,
  { mirror, config = STORE_CONFIG, head = 'main' }: { mirror: string; config?: string; head?: string },
): Promise<void> {
  for (const folder of ['objects/info', 'objects/pack', 'refs/heads', 'refs/tags'])
    await mkdir(join(gitDir, folder), { recursive: true })
  await replaceFile(join(gitDir, 'objects', 'info', 'alternates'), `${join(mirror, 'objects')}\n`)
  await replaceFile(join(gitDir, 'config'), config)
  // Last: without it git sees no repository.
  await replaceFile(join(gitDir, 'HEAD'), `ref: refs/heads/${head}\n`)
}
