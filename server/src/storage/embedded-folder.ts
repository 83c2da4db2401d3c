/**
 * Owns the layout of a data folder of the embedded server:
 *   <dataDir>/agentgate-data.json   the mark that the folder is ours; says where the cluster is
 *   <dataDir>/cluster/              PostgreSQL's own folder, or, where its user could not enter `dataDir` (a clone in
 *                                   a 0700 folder, started by root), /var/lib/agentgate/clusters/<random>
 *   <dataDir>/log/postgresql.log    what the server says
 *   <dataDir>/postgresql/<version>/ its programs (as root: /var/lib/agentgate/postgresql/<version>)
 * Moving `dataDir` is safe: the mark moves with it. Removing it leaves an outside cluster behind.
 */
import { randomBytes } from 'node:crypto'
import {
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  realpath,
  rmdir,
  stat,
  unlink,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, isAbsolute, join } from 'node:path'
import { GateError } from '../domain/error.ts'
import { sha256 } from '../lib/hash.ts'
import { makeOwnFolder } from '../lib/own-folder.ts'
import { type Binaries, installBinaries } from './embedded-binaries.ts'
import { exists, initialiseCluster, type ServerUser } from './embedded-cluster.ts'

/**
 * The user and group that the embedded server runs as when the gateway is root, for PostgreSQL refuses root. Nothing
 * else may use it: whoever has this uid can connect. Jails use 60001 and up, daemons of the system 65534 and below 1000.
 */
export const EMBEDDED_SERVER_UID = 59_999

const ROOT_LIBRARY = '/var/lib/agentgate'
const ROOT_SOCKETS = '/run/agentgate'
const MARK = 'agentgate-data.json'

interface Mark {
  /** Relative to the data folder, or absolute. */
  cluster: string
}

/** What may lie in an unmarked folder: a volume's own, and what other folders' starts leave in /var/lib/agentgate. */
const HARMLESS = new Set(['lost+found', 'postgresql', 'clusters'])

/** A socket's path ends at 107 bytes (103 on macOS), of which `/.s.PGSQL.5432` takes 14. */
const SOCKET_FOLDER_BYTES = 88

export interface ClusterFolder {
  cluster: string
  /** Unique on this machine; in the title of each process of the server. */
  name: string
  socketDir: string
  logFile: string
  binaries: Binaries
  user: ServerUser
}

/**
 * Makes `dataDir` and the cluster in it, or finds them. Refuses (`GateError` CONFLICT) a folder that holds something
 * else, a cluster of another user and one of another major version.
 */
export async function openClusterFolder(dataDir: string): Promise<ClusterFolder> {
  const user = process.getuid?.() === 0 ? { uid: EMBEDDED_SERVER_UID, gid: EMBEDDED_SERVER_UID } : undefined
  if (user) await makeOpenFolders()
  await makeOwnFolder(dataDir)
  const home = await realpath(dataDir)
  const cluster = await findCluster(home, user)
  const logFile = join(home, 'log/postgresql.log')
  await refuseLostCluster(cluster, logFile)
  const binaries = await installBinaries(join(user ? ROOT_LIBRARY : home, 'postgresql'))
  await mkdir(dirname(logFile), { recursive: true, mode: 0o700 })
  await initialiseCluster(cluster, binaries.initdb, user)
  await refuseOtherCluster(cluster, binaries, user)
  const name = sha256(cluster).slice(0, 12)
  return { cluster, name, socketDir: socketPlace(name, user), logFile, binaries, user }
}

/** Folders that the server's user must pass through, whatever the umask is. */
async function makeOpenFolders(): Promise<void> {
  for (const folder of [ROOT_LIBRARY, join(ROOT_LIBRARY, 'clusters'), ROOT_SOCKETS]) {
    await mkdir(folder, { recursive: true })
    await chmod(folder, 0o755)
  }
}

async function findCluster(home: string, user: ServerUser): Promise<string> {
  const entries = await readdir(home)
  if (entries.includes(MARK)) return readMark(home)
  const foreign = entries.find((name) => !HARMLESS.has(name) && !name.startsWith(MARK))
  if (foreign !== undefined) {
    throw new GateError('CONFLICT', `${home} is not a data folder of AgentGate: it holds ${foreign}.`, {
      hint: 'Name an empty or a new folder in AGENTGATE_DATA_DIR.',
    })
  }
  const canStay = user === undefined || (await isOpenToAll(home))
  const cluster = canStay ? 'cluster' : join(ROOT_LIBRARY, 'clusters', randomBytes(8).toString('hex'))
  await writeMark(home, { cluster })
  return readMark(home)
}

/** The cluster of a data folder that has one; makes nothing. */
export async function findClusterOf(dataDir: string): Promise<string | undefined> {
  return (await exists(join(dataDir, MARK))) ? readMark(await realpath(dataDir)) : undefined
}

async function readMark(home: string): Promise<string> {
  const { cluster }: Mark = JSON.parse(await readFile(join(home, MARK), 'utf8'))
  return isAbsolute(cluster) ? cluster : join(home, cluster)
}

/** Appears whole or not at all, and stays what the first of two starts has written. */
async function writeMark(home: string, mark: Mark): Promise<void> {
  const path = join(home, MARK)
  const aside = `${path}.new-${process.pid}`
  const file = await open(aside, 'w', 0o644)
  await file.writeFile(`${JSON.stringify(mark)}\n`)
  await file.sync()
  await file.close()
  await link(aside, path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  })
  await unlink(aside)
}

/** A folder whose server has run once has a log; without its cluster, starting afresh would hide the loss. */
async function refuseLostCluster(cluster: string, logFile: string): Promise<void> {
  if ((await exists(cluster)) || !(await exists(logFile))) return
  throw new GateError('CONFLICT', `The data in ${cluster} is gone.`, {
    hint: 'Bring that folder back, or name a new one in AGENTGATE_DATA_DIR to start afresh.',
  })
}

/** Whether a user without rights of its own can pass through `folder` and all folders above it. */
async function isOpenToAll(folder: string): Promise<boolean> {
  const { mode } = await stat(folder)
  if ((mode & 0o001) === 0) return false
  return folder === '/' || (await isOpenToAll(dirname(folder)))
}

async function refuseOtherCluster(cluster: string, binaries: Binaries, user: ServerUser): Promise<void> {
  const owner = (await stat(cluster)).uid
  const uid = user?.uid ?? process.getuid?.() ?? owner
  if (owner !== uid) {
    const starter = owner === EMBEDDED_SERVER_UID ? 'root' : `the user with uid ${owner}`
    throw new GateError('CONFLICT', `${cluster} was made by a gateway that ran as ${starter}.`, {
      hint: 'Start as that user, or name another folder in AGENTGATE_DATA_DIR.',
    })
  }
  const major = (await readFile(join(cluster, 'PG_VERSION'), 'utf8')).trim()
  if (major !== binaries.major) {
    throw new GateError(
      'CONFLICT',
      `${cluster} is of PostgreSQL ${major}; this gateway has ${binaries.major}.`,
      {
        hint: 'Export with the release that made it (agentgate export FILE), and import into a new folder.',
      },
    )
  }
}

const socketPlace = (name: string, user: ServerUser): string =>
  join(user ? ROOT_SOCKETS : join(shortTmpdir(), `agentgate-${process.getuid?.() ?? 0}`), name)

type SocketFolder = Pick<ClusterFolder, 'socketDir' | 'user'>

/** A folder that only the server's user (and root) may enter: whoever reaches the socket is trusted. */
export async function makeSocketFolder({ socketDir, user }: SocketFolder): Promise<void> {
  if (!user) {
    const parent = dirname(socketDir)
    await mkdir(parent, { recursive: true, mode: 0o700 })
    await refuseSquatter(parent)
  }
  await mkdir(socketDir, { recursive: true, mode: 0o700 })
  await refuseSquatter(socketDir, user?.uid)
  if (user) await chown(socketDir, user.uid, user.gid)
  await chmod(socketDir, 0o700)
}

/** After a stop. A server that was started there in the meantime keeps it. */
export async function removeSocketFolder({ socketDir }: SocketFolder): Promise<void> {
  await rmdir(socketDir).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT' && error.code !== 'ENOTEMPTY') throw error
  })
}

/** Not XDG_RUNTIME_DIR: it goes when its user logs out, and the gateway stays. */
const shortTmpdir = (): string =>
  Buffer.byteLength(tmpdir()) + '/agentgate-4294967295/123456789012'.length > SOCKET_FOLDER_BYTES
    ? '/tmp'
    : tmpdir()

/** In a folder that all may write to, somebody else may have been there first. */
async function refuseSquatter(folder: string, alsoAllowed?: number): Promise<void> {
  const found = await lstat(folder)
  const isOurs = found.uid === process.getuid?.() || found.uid === alsoAllowed
  if (found.isDirectory() && isOurs && (found.mode & 0o022) === 0) return
  throw new GateError('CONFLICT', `${folder} belongs to somebody else.`, {
    hint: 'Remove it, or set TMPDIR to a folder of your own.',
  })
}
