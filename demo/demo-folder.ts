import { chmod, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

const PARENT = '/var/tmp'
const PREFIX = 'agentgate-demo-'

/**
 * A new folder with a data folder in it. Users of jails and of PostgreSQL may pass through both, so that nothing has
 * to lie elsewhere. What demos that were killed have left goes.
 */
export async function makeDemoFolder(): Promise<{ folder: string; dataDir: string }> {
  await removeAbandoned()
  const folder = await mkdtemp(join(PARENT, `${PREFIX}${process.pid}-`))
  const dataDir = join(folder, 'data')
  await mkdir(dataDir)
  for (const path of [folder, dataDir]) await chmod(path, 0o711)
  return { folder, dataDir }
}

async function removeAbandoned(): Promise<void> {
  for (const name of (await readdir(PARENT)).filter((each) => each.startsWith(PREFIX))) {
    if (isAlive(Number.parseInt(name.slice(PREFIX.length), 10))) continue
    await rm(join(PARENT, name), { recursive: true, force: true }).catch(() => 'it is another user’s')
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
