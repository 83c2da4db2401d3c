import { randomUUID } from 'node:crypto'
import { chmod, mkdtemp, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { findForeignEntry } from '../data-folder.ts'
import { type Finding, ok, problem, warning } from './finding.ts'

const LOW_DISK_BYTES = 2 * 2 ** 30

/** A new folder that users of jails and of PostgreSQL may pass through. */
export async function makeOpenFolder(prefix: string): Promise<string> {
  const folder = await mkdtemp(join('/var/tmp', prefix))
  await chmod(folder, 0o711)
  return folder
}

/** Whether the server could keep its data there, by writing a file. */
export async function examineDataFolder(dataDir: string): Promise<Finding> {
  const name = 'data folder'
  const elsewhere = 'Name another folder in AGENTGATE_DATA_DIR.'
  const existing = await nearestFolder(dataDir)
  const trial = join(existing, `.agentgate-${randomUUID()}`)
  try {
    const foreign = findForeignEntry(dataDir)
    if (foreign !== undefined) return problem(name, `${dataDir} is not ours: it holds ${foreign}`, elsewhere)
    const { uid } = await stat(existing)
    await writeFile(trial, '', { flag: 'wx' })
    await rm(trial)
    const state = existing === dataDir ? `of uid ${uid}` : 'the first start makes it'
    return ok(name, `${dataDir}, ${state}`)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    return problem(name, `${dataDir} cannot be written: ${reason}`, elsewhere)
  }
}

export async function examineDisk(dataDir: string): Promise<Finding> {
  const { bavail, bsize } = await statfs(await nearestFolder(dataDir))
  const free = bavail * bsize
  const text = `${(free / 2 ** 30).toFixed(1)} GiB free for the data folder`
  return free >= LOW_DISK_BYTES
    ? ok('disk', text)
    : warning('disk', text, 'Make room: clones, workspaces and the database need some.')
}

async function nearestFolder(path: string): Promise<string> {
  const isThere = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
  return isThere || path === dirname(path) ? path : nearestFolder(dirname(path))
}
