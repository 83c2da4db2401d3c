/** Processes of an embedded server: its pid file, its start, its end, and what a killed one leaves behind. */
import { spawn } from 'node:child_process'
import { open, readdir, readFile, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { GateError } from '../domain/error.ts'
import { SERVER_ENV } from './embedded-cluster.ts'
import type { ClusterFolder } from './embedded-folder.ts'

/** What `postmaster.pid` says. The file is PostgreSQL's: we read it and never remove it. */
export interface Postmaster {
  pid: number
  port: number
  socketDir: string
}

export type Lifetime = 'adoptable' | 'with-parent'

export const PORT = 5432

const LOG_BYTES = 10 * 1024 * 1024
const FAST_STOP_MS = 5_000
const IMMEDIATE_STOP_MS = 10_000
const BURIAL_MS = 10_000
const POLL_MS = 5

const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '',
  unix_socket_permissions: '0700',
  max_connections: '100',
  shared_buffers: '128MB',
  // Not in /dev/shm, which systemd empties of a user's files when the user logs out, and which containers keep small:
  // without its segment the server refuses every new connection.
  dynamic_shared_memory_type: 'mmap',
  max_wal_size: '4GB',
  fsync: 'on',
  synchronous_commit: 'on',
  full_page_writes: 'on',
  jit: 'off',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_checkpoints: 'off',
  log_line_prefix: '%m [%p] ',
}

/** Undefined where no server has been started, or it has stopped in order. */
export async function readPostmaster(cluster: string): Promise<Postmaster | undefined> {
  const text = await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(ignoreMissing)
  const [pid, , , port, socketDir] = text?.split('\n') ?? []
  if (!pid) return undefined
  return { pid: Number(pid), port: Number(port), socketDir: socketDir ?? '' }
}

export interface Launched {
  pid: number
  exited: Promise<void>
  /** What it has written to the log since its start. */
  output(): Promise<string>
}

/**
 * Starts the server in a session of its own, so that a Ctrl-C meant for the gateway does not reach it. `with-parent`
 * has the kernel stop it when this process dies (Linux; elsewhere it stays, as with `adoptable`).
 */
export async function launchPostmaster(
  folder: ClusterFolder,
  lifetime: Lifetime,
  settings: Readonly<Record<string, string>>,
): Promise<Launched> {
  const all = { ...SETTINGS, ...settings, ...placeSettings(folder) }
  const command = [folder.binaries.postgres, '-D', folder.cluster]
  command.push(...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]))
  if (lifetime === 'with-parent' && process.platform === 'linux') {
    command.unshift('setpriv', '--pdeathsig', 'INT')
  }
  await rotate(folder.logFile)
  // A file, not a pipe: a pipe would die with the gateway, and the server with its next line.
  const log = await open(folder.logFile, 'a', 0o600)
  const begin = (await log.stat()).size
  try {
    const [program = '', ...args] = command
    const child = spawn(program, args, {
      ...folder.user,
      env: SERVER_ENV,
      cwd: '/',
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
    })
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject))
    child.unref()
    return { pid: child.pid ?? 0, exited, output: () => readFrom(folder.logFile, begin) }
  } catch (cause) {
    throw new GateError(
      'SERVICE_UNAVAILABLE',
      `The embedded PostgreSQL cannot be started: ${String(cause)}`,
      {
        hint: 'Mend what it names, or name a PostgreSQL 15 or newer in DATABASE_URL.',
        cause,
      },
    )
  } finally {
    await log.close()
  }
}

const placeSettings = ({ socketDir, name }: ClusterFolder): Record<string, string> => ({
  unix_socket_directories: socketDir,
  port: String(PORT),
  cluster_name: name,
})

/** Ends running transactions and stops (SIGINT); after 5 s without writing a checkpoint (SIGQUIT). */
export async function stopPostmaster(cluster: string, pid: number): Promise<void> {
  for (const [signal, patienceMs] of [
    ['SIGINT', FAST_STOP_MS],
    ['SIGQUIT', IMMEDIATE_STOP_MS],
  ] as const) {
    if (!(await isPostmaster(cluster, pid))) return
    sendSignal(pid, signal)
    if (await becomesTrue(async () => !(await isPostmaster(cluster, pid)), patienceMs)) return
  }
  throw new GateError('SERVICE_UNAVAILABLE', `The embedded PostgreSQL (process ${pid}) does not stop.`)
}

/**
 * After a postmaster was killed: ends backends that have outlived it (a busy one does not notice), which are known by
 * the cluster's name in their title, and waits for init to bury it, for PostgreSQL takes a zombie for a live server.
 * Says how many backends there were.
 */
export async function clearRemains({ cluster, name }: ClusterFolder): Promise<number> {
  const postmaster = await readPostmaster(cluster)
  if (postmaster && (await isPostmaster(cluster, postmaster.pid))) return 0
  const orphans = await listBackends(name)
  for (const pid of orphans) sendSignal(pid, 'SIGQUIT')
  const isClear = async (): Promise<boolean> => (await listBackends(name)).length === 0
  if (!(await becomesTrue(isClear, FAST_STOP_MS))) {
    for (const pid of await listBackends(name)) sendSignal(pid, 'SIGKILL')
    await becomesTrue(isClear, FAST_STOP_MS)
  }
  if (postmaster) await becomesTrue(async () => !(await isZombie(postmaster.pid)), BURIAL_MS)
  return orphans.length
}

/** Whether `pid` is alive and a postmaster of this cluster: not a zombie, not a stranger with a used pid. */
export async function isPostmaster(cluster: string, pid: number): Promise<boolean> {
  if (process.platform === 'linux') return (await readCommand(pid)).includes(cluster)
  const postmaster = await readPostmaster(cluster)
  return postmaster?.pid === pid && sendSignal(pid, 0)
}

async function listBackends(name: string): Promise<number[]> {
  if (process.platform !== 'linux') return []
  const pids = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry)).map(Number)
  const commands = await Promise.all(pids.map(readCommand))
  return pids.filter((_, index) => commands[index]?.[0]?.startsWith(`postgres: ${name}: `))
}

/** The command line, which anyone may read; of a zombie, or of nobody, an empty one. */
const readCommand = async (pid: number): Promise<string[]> =>
  (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0')

async function isZombie(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return stat.slice(stat.lastIndexOf(')')).startsWith(') Z')
}

/** Whether there was a process to send it to. */
function sendSignal(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ESRCH') return false
    throw error
  }
}

async function becomesTrue(condition: () => Promise<boolean>, patienceMs: number): Promise<boolean> {
  const end = performance.now() + patienceMs
  while (performance.now() < end) {
    if (await condition()) return true
    await pause(POLL_MS)
  }
  return condition()
}

/** The log before this start is kept once it is long. */
async function rotate(logFile: string): Promise<void> {
  const found = await stat(logFile).catch(ignoreMissing)
  if (found && found.size > LOG_BYTES) await rename(logFile, `${logFile}.1`)
}

async function readFrom(path: string, begin: number): Promise<string> {
  const text = await readFile(path)
  return text.subarray(begin).toString('utf8').trim()
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}
