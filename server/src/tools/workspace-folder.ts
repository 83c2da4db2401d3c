/**
 * Owns the way from a path that an agent wrote to an open file of the workspace.
 * Invariants: 1. Nothing outside the root is opened, whatever the path or the links in it say, also while
 * somebody swaps folders for links. 2. Only regular files and folders are opened; a FIFO or device is refused
 * without blocking. 3. No component named `.git` is entered.
 * Leaves to others: size caps, and what is done with an open file.
 */
import { constants, type Stats } from 'node:fs'
import { type FileHandle, lstat, mkdir, open, readlink } from 'node:fs/promises'

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants
const MAX_PATH_BYTES = 4096
const MAX_LINKS = 40
const MAX_DEPTH = 128
/** Where commands see the workspace; a path that an agent took from there means the same place here. */
const JAIL_ROOT = '/workspace'

/** The path is not one that a tool can use; the message is a sentence. */
export class PathRefused extends Error {
  override readonly name = 'PathRefused'
  /** `not_allowed` is out of bounds for ever, `failed` could be otherwise. */
  readonly code: 'not_allowed' | 'failed'
  constructor(message: string, code: 'not_allowed' | 'failed' = 'not_allowed') {
    super(message)
    this.code = code
  }
}

/** An open folder of the workspace. */
export interface Folder {
  handle: FileHandle
  /** Relative to the root; empty for the root itself. */
  path: string
  /** Where it stands on the host, for those who need a name. */
  hostPath: string
}

/** A name in an open folder. `stats` is null when nothing is there. Never a symbolic link. */
export interface Place {
  folder: Folder
  name: string
  /** Relative to the root. */
  path: string
  stats: Stats | null
}

/**
 * A path that means `name` in exactly this open folder. On Linux it goes through the descriptor, so that no
 * component can be exchanged between the check and the use.
 */
export const within = (folder: Folder, name: string): string =>
  process.platform === 'linux' ? `/proc/self/fd/${folder.handle.fd}/${name}` : `${folder.hostPath}/${name}`

/** The components of a path as an agent may write it: inside the workspace, without `..`, NUL and `.git`. */
export function componentsOf(path: string): string[] {
  if (path.includes('\0')) throw new PathRefused('The path contains a NUL character.')
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) throw new PathRefused('The path is too long.')
  const relative =
    path === JAIL_ROOT || path.startsWith(`${JAIL_ROOT}/`) ? path.slice(JAIL_ROOT.length + 1) : path
  if (relative.startsWith('/'))
    throw new PathRefused('The path leads outside the workspace: write it relative to its root.')
  const components = relative.split('/').filter((component) => component !== '' && component !== '.')
  if (components.includes('..')) throw new PathRefused('The path must not contain "..".')
  if (components.length > MAX_DEPTH) throw new PathRefused('The path is too deep.')
  return components.map(allowed)
}

/** The repository's own folder, in the spellings that some file system takes for it, is never entered. */
function allowed(component: string): string {
  const folded = component
    .normalize('NFKC')
    .replaceAll(/\p{Cf}/gu, '')
    .replace(/[. ]+$/, '')
    .toLowerCase()
  if (folded === '.git' || folded === 'git~1') throw new PathRefused('.git is out of bounds.')
  if (Buffer.byteLength(component) > 255) throw new PathRefused('A name in the path is too long.')
  return component
}

async function openFolder(parent: Folder | null, name: string): Promise<Folder> {
  const target = parent ? within(parent, name) : name
  const handle = await open(target, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK)
  if (parent === null) return { handle, path: '', hostPath: name }
  return { handle, path: pathIn(parent, name), hostPath: `${parent.hostPath}/${name}` }
}

export const pathIn = (folder: Folder, name: string): string =>
  folder.path === '' ? name : `${folder.path}/${name}`

/**
 * Walks to `path` and hands the place to `use`; every folder on the way is closed afterwards. Links inside the
 * workspace are followed, others refused. With `create` missing folders are made, mode 0755, and reported.
 */
export async function atPlace<T>(
  root: string,
  path: string,
  { create, use }: { create?: (hostPath: string) => Promise<void>; use: (place: Place) => Promise<T> },
): Promise<T> {
  const open: Folder[] = []
  try {
    open.push(await openFolder(null, root))
    return await use(await walk(open, componentsOf(path), create))
  } finally {
    for (const folder of open) await folder.handle.close()
  }
}

/** `open` is the chain of open folders from the root to where the walk stands; `..` of a link pops it. */
async function walk(
  open: Folder[],
  components: string[],
  create: ((hostPath: string) => Promise<void>) | undefined,
): Promise<Place> {
  let links = 0
  for (;;) {
    const folder = open.at(-1)
    if (folder === undefined) throw new PathRefused('The path leads outside the workspace.')
    const name = components.shift()
    if (name === undefined) return { folder, name: '.', path: folder.path, stats: await folder.handle.stat() }
    if (name === '..') {
      await folder.handle.close()
      open.pop()
      continue
    }
    const stats = await statOrNull(folder, name)
    if (stats?.isSymbolicLink()) {
      links += 1
      if (links > MAX_LINKS) throw new PathRefused('Too many symbolic links are on the path.')
      components.unshift(...(await linkTarget(folder, name)))
      continue
    }
    if (components.length === 0 && !stats?.isDirectory())
      return { folder, name, path: pathIn(folder, name), stats }
    if (stats === null && create) await makeFolder(folder, name, create)
    open.push(await openFolder(folder, name))
  }
}

async function makeFolder(
  folder: Folder,
  name: string,
  create: (hostPath: string) => Promise<void>,
): Promise<void> {
  await mkdir(within(folder, name), 0o755)
  await create(`${folder.hostPath}/${name}`)
}

async function linkTarget(folder: Folder, name: string): Promise<string[]> {
  const target = await readlink(within(folder, name))
  if (target.startsWith('/'))
    throw new PathRefused('A symbolic link on the path leads outside the workspace.')
  return target
    .split('/')
    .filter((component) => component !== '' && component !== '.')
    .map((component) => (component === '..' ? component : allowed(component)))
}

async function statOrNull(folder: Folder, name: string): Promise<Stats | null> {
  try {
    return await lstat(within(folder, name))
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return null
    throw error
  }
}

/** Opens the regular file at a place, for reading. */
export async function openFile(place: Place): Promise<FileHandle> {
  if (place.stats === null) throw new PathRefused(`${place.path} does not exist.`, 'failed')
  if (place.stats.isDirectory()) throw new PathRefused(`${place.path || '.'} is a folder.`, 'failed')
  if (!place.stats.isFile()) throw new PathRefused(`${place.path} is not a regular file.`)
  const handle = await open(within(place.folder, place.name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  if ((await handle.stat()).isFile()) return handle
  await handle.close()
  throw new PathRefused(`${place.path} is not a regular file.`)
}

export const isErrno = (error: unknown, code?: string): error is NodeJS.ErrnoException =>
  error instanceof Error &&
  'code' in error &&
  'syscall' in error &&
  (code === undefined || error.code === code)
