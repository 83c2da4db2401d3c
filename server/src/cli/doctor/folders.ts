import { randomUUID } from 'node:crypto'
import { chmod, mkdtemp, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Config } from '../../config.ts'
import { findForeignEntry } from '../data-folder.ts'
import { type Finding, ok, problem, warning } from './finding.ts'

/** Room for this many times the floor is enough to begin with. */
const AMPLE = 4

/** A new folder that users of jails and of PostgreSQL may pass through; goes when it is disposed. */
export async function makeOpenFolder(parent = '/var/tmp'): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(parent, 'agentgate-doctor-'))
  await chmod(path, 0o711)
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
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

export async function examineDisk({
  dataDir,
  minDiskBytes,
}: Pick<Config, 'dataDir' | 'minDiskBytes'>): Promise<Finding> {
  const { bavail, bsize } = await statfs(await nearestFolder(dataDir))
  const free = bavail * bsize
  const text = `${(free / 2 ** 30).toFixed(1)} GiB free for the data folder`
  const remedy = 'Make room: clones, workspaces and the database need some.'
  if (free < minDiskBytes) {
    return problem(
      'disk',
      `${text}, so new runs are refused`,
      `${remedy} AGENTGATE_MIN_DISK_MB is the floor.`,
    )
  }
  return free >= AMPLE * minDiskBytes ? ok('disk', text) : warning('disk', text, remedy)
}

async function nearestFolder(path: string): Promise<string> {
  const isThere = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
  return isThere || path === dirname(path) ? path : nearestFolder(dirname(path))
}
