import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  constants,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { sha256 } from '../lib/hash.ts'
import { removeStaleGroups } from './limits.ts'
import { isStale, processMark } from './process-mark.ts'

const isRoot = (): boolean => process.getuid?.() === 0
const TRAVERSABLE = 0o711
const OWN_ROOT = '/var/lib/agentgate'

/** What the jails of one process need on the host, in a folder that every slot's uid can reach. */
export interface JailFiles {
  folder: string
  forwarder: string
  /** The server's own node and npm, when they are not part of `/usr`. */
  node: { program: string; npm: string } | undefined
}

let opened = 0

/** Writes the synthetic `/etc` and the rest below `root`; `removeJailFiles` takes it away. */
export function writeJailFiles(root: string): JailFiles {
  const folder = join(root, `jails-${processMark()}-${++opened}`)
  mkdirSync(join(folder, 'etc'), { recursive: true })
  for (const path of [folder, join(folder, 'etc')]) chmodSync(path, TRAVERSABLE)
  const etc = {
    passwd: 'root:x:0:0:root:/:/usr/sbin/nologin\nagent:x:1000:1000:agent:/home/agent:/bin/sh\n',
    group: 'root:x:0:\nagent:x:1000:\n',
    hosts: '127.0.0.1 localhost agentgate\n::1 localhost\n',
    'nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files\n',
  }
  for (const [name, text] of Object.entries(etc))
    writeFileSync(join(folder, 'etc', name), text, { mode: 0o644 })
  const forwarder = join(folder, 'forward.mjs')
  copyFileSync(fileURLToPath(new URL('./forward.mjs', import.meta.url)), forwarder)
  chmodSync(forwarder, 0o644)
  return { folder, forwarder, node: findNode(folder) }
}

export const removeJailFiles = (files: JailFiles): void =>
  rmSync(files.folder, { recursive: true, force: true })

/** One named pipe per slot, readable and writable for its uid alone. */
export function makeOutputPipes(files: JailFiles, uids: readonly number[]): string[] {
  const pipes = uids.map((_, index) => join(files.folder, `slot-${index}.out`))
  execFileSync('mkfifo', ['-m', '600', ...pipes])
  if (isRoot()) pipes.forEach((pipe, index) => chownSync(pipe, uids[index] ?? 0, uids[index] ?? 0))
  return pipes
}

/** A node below a folder that slots cannot enter, such as root's home, is copied to where they can. */
function findNode(folder: string): JailFiles['node'] {
  const program = realpathSync(process.execPath)
  if (program.startsWith('/usr/')) return undefined
  const npm = join(dirname(dirname(program)), 'lib/node_modules/npm')
  if (!isRoot() || isTraversable(dirname(program))) return { program, npm }
  const copy = { program: join(folder, 'node/node'), npm: join(folder, 'node/npm') }
  mkdirSync(dirname(copy.program))
  chmodSync(dirname(copy.program), TRAVERSABLE)
  copyFileSync(program, copy.program, constants.COPYFILE_FICLONE)
  chmodSync(copy.program, 0o755)
  if (existsSync(npm)) cpSync(npm, copy.npm, { recursive: true, preserveTimestamps: true })
  return copy
}

/** Whether any uid can pass through a folder and all of its parents. */
function isTraversable(path: string): boolean {
  const passable = (statSync(path).mode & 0o001) !== 0
  return passable && (path === '/' || isTraversable(dirname(path)))
}

/**
 * The folder for workspaces and all else that jails must reach, made when missing: `work` in the data folder,
 * or, as root with a data folder that other uids cannot enter, one of its own below `/var/lib/agentgate`.
 */
export function jailRoot(dataDir: string): string {
  if (!isRoot() || isTraversable(dataDir)) return makeFolders([join(dataDir, 'work')])
  const own = sha256(realpathSync(dataDir)).slice(0, 12)
  return makeFolders([OWN_ROOT, join(OWN_ROOT, 'work'), join(OWN_ROOT, 'work', own)])
}

/** Makes folders, parents first, and gives the last; chmod, because the umask may keep other uids out. */
function makeFolders(paths: readonly string[]): string {
  for (const path of paths) {
    mkdirSync(path, { recursive: true })
    chmodSync(path, isRoot() ? TRAVERSABLE : 0o700)
  }
  return paths.at(-1) ?? ''
}

/** Removes what servers that are gone left behind: folders below `root`, control groups and their processes. */
export function cleanJails(root: string): void {
  removeStaleGroups()
  for (const name of existsSync(root) ? readdirSync(root) : []) {
    if (!name.startsWith('jails-') || !isStale(name.slice('jails-'.length))) continue
    rmSync(join(root, name), { recursive: true, force: true })
  }
}
