/** Makes a cluster: `initdb`, run by somebody whom it accepts. */
import { execFile } from 'node:child_process'
import { lchown, mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { GateError } from '../domain/error.ts'

/** Who the server runs as, when that is not who we are. */
export type ServerUser = { uid: number; gid: number } | undefined

export const EMBEDDED_USER = 'agentgate'
export const EMBEDDED_DATABASE = 'agentgate'

/** The environment of PostgreSQL's programs: none of ours, which may hold keys. */
export const SERVER_ENV = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' }

/** Works aside, so that a cluster exists whole or not at all; of two starts the first one's stays. */
export async function initialiseCluster(cluster: string, initdb: string, user: ServerUser): Promise<void> {
  if (await exists(cluster)) return
  const aside = `${cluster}.new-${process.pid}`
  await rm(aside, { recursive: true, force: true })
  await mkdir(dirname(cluster), { recursive: true, mode: 0o755 })
  await mkdir(aside, { mode: 0o700 })
  try {
    if (user) await initialiseForOther(initdb, aside, user)
    else await initialiseForOurselves(initdb, aside)
    await rename(aside, cluster)
  } catch (error) {
    if (!(await exists(cluster))) throw wrap(error)
  } finally {
    await rm(aside, { recursive: true, force: true })
  }
}

/**
 * `initdb` wants a user with a name, and the server's uid has none. A system account that nothing runs as lends its
 * own for half a second; then all is the server's.
 */
async function initialiseForOther(
  initdb: string,
  folder: string,
  user: { uid: number; gid: number },
): Promise<void> {
  const account = await findIdleAccount()
  await lchown(folder, account, account)
  await runInitdb([initdb], folder, { uid: account, gid: account })
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    await lchown(join(entry.parentPath, entry.name), user.uid, user.gid)
  }
  await lchown(folder, user.uid, user.gid)
}

/** A uid without a name (`docker run --user 1234`) borrows one in a user namespace; the files are its own all the same. */
async function initialiseForOurselves(initdb: string, folder: string): Promise<void> {
  try {
    await runInitdb([initdb], folder)
  } catch (error) {
    if (!(error instanceof Error && error.message.includes('could not look up effective user ID')))
      throw error
    const account = await findIdleAccount()
    const borrow = ['unshare', '--user', `--map-user=${account}`, `--map-group=${account}`]
    await runInitdb([...borrow, initdb], folder)
  }
}

/** Text sorts by code point and does not depend on the machine's locales; only the socket lets anyone in. */
async function runInitdb(
  command: string[],
  folder: string,
  user?: { uid: number; gid: number },
): Promise<void> {
  const locale = ['--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8']
  const access = [`--username=${EMBEDDED_USER}`, '--auth-local=trust', '--auth-host=reject']
  const [program = '', ...before] = command
  const args = [...before, '-D', folder, ...locale, ...access, '--no-instructions']
  await promisify(execFile)(program, args, { ...user, env: SERVER_ENV, cwd: '/' })
}

/** The uid of a system account that has no process, so that nobody can meddle with what runs as it. */
async function findIdleAccount(): Promise<number> {
  const passwd = await readFile('/etc/passwd', 'utf8')
  const accounts = passwd.split('\n').map((line) => Number(line.split(':')[2]))
  const busy = await listBusyUids()
  const idle = accounts.find((uid) => uid > 0 && uid < 1000 && !busy.has(uid))
  if (idle !== undefined) return idle
  throw new Error('/etc/passwd has no system account (uid 1 to 999) that nothing runs as')
}

async function listBusyUids(): Promise<Set<number>> {
  const processes = (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name))
  const owners = await Promise.all(processes.map((pid) => stat(`/proc/${pid}`).catch(() => undefined)))
  return new Set(owners.flatMap((owner) => (owner ? [owner.uid] : [])))
}

function wrap(cause: unknown): GateError {
  const said = cause instanceof Error && 'stderr' in cause ? String(cause.stderr).trim() : String(cause)
  return new GateError('SERVICE_UNAVAILABLE', `The embedded PostgreSQL could not be set up: ${said}`, {
    hint: 'Mend what it names, or name a PostgreSQL 15 or newer in DATABASE_URL.',
    cause,
  })
}

export const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw error
    },
  )
