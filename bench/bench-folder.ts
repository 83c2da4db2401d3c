import { chmod, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { findClusterOf } from '../server/src/storage/embedded-folder.ts'
import { readPostmaster, stopPostmaster } from '../server/src/storage/embedded-process.ts'

const PARENT = '/var/tmp'
const PREFIX = 'agentgate-bench-'

/** A folder that users of jails and of PostgreSQL may pass through, with a data folder in it. */
export interface BenchFolder extends AsyncDisposable {
  path: string
  dataDir: string
}

/** Removed when disposed of; what benches that were killed have left goes now. */
export async function makeBenchFolder(): Promise<BenchFolder> {
  await removeAbandoned()
  const path = await mkdtemp(join(PARENT, `${PREFIX}${process.pid}-`))
  const dataDir = join(path, 'data')
  await mkdir(dataDir)
  for (const each of [path, dataDir]) await chmod(each, 0o711)
  return { path, dataDir, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

export interface Postmaster {
  pid: number
  /** Of its socket. */
  folder: string
}

/** The server of the embedded database below a data folder. */
export async function findPostmaster(dataDir: string): Promise<Postmaster> {
  const { pid, socketDir } = await readServer(dataDir)
  return { pid, folder: socketDir }
}

async function readServer(dataDir: string): Promise<{ pid: number; socketDir: string; cluster: string }> {
  const cluster = await findClusterOf(join(dataDir, 'postgresql'))
  const postmaster = cluster && (await readPostmaster(cluster))
  if (!cluster || !postmaster) throw new Error(`No PostgreSQL runs in ${dataDir}.`)
  return { ...postmaster, cluster }
}

/** A bench that was killed may have left a PostgreSQL that outlives its gateway. */
async function removeAbandoned(): Promise<void> {
  const processes = await readdir('/proc')
  for (const name of (await readdir(PARENT)).filter((each) => each.startsWith(PREFIX))) {
    const [pid = ''] = name.slice(PREFIX.length).split('-')
    if (processes.includes(pid)) continue
    const folder = join(PARENT, name)
    const server = await readServer(join(folder, 'data')).catch(() => undefined)
    try {
      if (server) await stopPostmaster(server.cluster, server.pid)
      if (server) await rm(server.socketDir, { recursive: true, force: true })
      await rm(folder, { recursive: true, force: true })
    } catch {
      // It is another user's, who removes it.
    }
  }
}
