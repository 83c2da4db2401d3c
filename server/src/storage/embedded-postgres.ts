/**
 * Owns: the embedded PostgreSQL of one data folder, from finding or starting it to stopping it.
 * Invariants: a folder has one supervisor, the holder of a session advisory lock, and only it stops the server.
 *   PostgreSQL alone decides whether a pid file is stale; none is ever removed. A server that dies under us is
 *   started again; one that has outlived its gateway is adopted.
 * Leaves to others: the schema (`migrate`), connections for work (`database`), `DATABASE_URL`.
 */
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { GateError } from '../domain/error.ts'
import { type Backoff, backoffMs } from '../lib/backoff.ts'
import { type DedicatedConnection, openConnection, type SocketAddress } from './database.ts'
import { DatabaseError } from './database-error.ts'
import { EMBEDDED_DATABASE, EMBEDDED_USER } from './embedded-cluster.ts'
import {
  type ClusterFolder,
  makeSocketFolder,
  openClusterFolder,
  removeSocketFolder,
} from './embedded-folder.ts'
import {
  clearRemains,
  isPostmaster,
  type Launched,
  type Lifetime,
  launchPostmaster,
  PORT,
  readPostmaster,
  stopPostmaster,
} from './embedded-process.ts'

export interface EmbeddedOptions {
  /** Made where it does not exist; must be empty or a data folder of AgentGate. */
  dataDir: string
  log: (line: string, facts?: object) => void
  /** `adoptable` outlives a killed gateway; `with-parent` is stopped by the kernel with this process (Linux). */
  lifetime: Lifetime
  /** PostgreSQL settings on top of ours. */
  settings?: Readonly<Record<string, string>>
}

export interface EmbeddedPostgres extends AsyncDisposable {
  readonly connection: SocketAddress
  /** As the server says it: `18.4`. */
  readonly version: string
  /** Whether the server was running already. */
  readonly adopted: boolean
  /** The postmaster's; another one after a restart. */
  readonly pid: number
  /**
   * Called when a server that died runs again; it is tried for until `stop`, with pauses of at most 10 s. Pools
   * mend themselves; other connections, and what they listened to, are gone.
   */
  onRestart(listener: () => void): void
  /** Fast stop, after 5 s an immediate one. Does nothing where another process has become supervisor. */
  stop(): Promise<void>
}

interface Reached {
  session: DedicatedConnection
  pid: number
  socketDir: string
  adopted: boolean
}

type Start = EmbeddedOptions & { folder: ClusterFolder }

const SUPERVISOR_LOCK = [0x6761_7465, 1] as const
const RESTART: Backoff = { firstMs: 100, factor: 2, maxMs: 10_000 }
const LAUNCHES = 3

/** A killed supervisor's session ends when its backend sees the closed socket, which takes a moment. */
const LOCK_PATIENCE_MS = 1_000
const SOCKET_PATIENCE_MS = 10_000
const POLL_MS = 10
const CANNOT_CONNECT_NOW = '57P03'
const SESSION_SETTINGS = { application_name: `agentgate supervisor, process ${process.pid}` }

/**
 * Starts the server of `dataDir`, or adopts it. Throws `GateError` with a hint: CONFLICT where the folder is not ours,
 * of another user or major version, or supervised by another process; SERVICE_UNAVAILABLE where it does not start.
 */
export async function startEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const folder = await openClusterFolder(options.dataDir)
  const start = { ...options, folder }
  return new Supervisor(start, await reachServer(start))
}

class Supervisor implements EmbeddedPostgres {
  readonly connection: SocketAddress
  readonly version: string
  readonly adopted: boolean
  readonly #start: Start
  #server: Reached | undefined
  #pid: number
  readonly #restartListeners: (() => void)[] = []
  readonly #stopping = new AbortController()
  #recovery: Promise<void> = Promise.resolve()
  #stopped: Promise<void> | undefined

  constructor(start: Start, server: Reached) {
    // A server that was started elsewhere keeps its socket folder, also after a restart: pools know it by that.
    this.#start = { ...start, folder: { ...start.folder, socketDir: server.socketDir } }
    this.connection = addressOf(this.#start.folder, EMBEDDED_DATABASE)
    this.version = start.folder.binaries.version
    this.adopted = server.adopted
    this.#pid = server.pid
    this.#watch(server)
  }

  get pid(): number {
    return this.#pid
  }

  onRestart(listener: () => void): void {
    this.#restartListeners.push(listener)
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  #watch(server: Reached): void {
    this.#server = server
    this.#pid = server.pid
    server.session.onEnd(() => {
      this.#server = undefined
      if (!this.#stopping.signal.aborted) this.#recovery = this.#recover(server.pid)
    })
  }

  /** The session ends with the server, or alone; either way we find or start the server, and take the lock again. */
  async #recover(pid: number): Promise<void> {
    const { log, folder } = this.#start
    log('the session of the embedded PostgreSQL has ended', { pid, logFile: folder.logFile })
    const { signal } = this.#stopping
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        this.#watch(await reachServer(this.#start))
        break
      } catch (error) {
        log('the embedded PostgreSQL did not come back', { attempt, error })
        await pause(backoffMs(RESTART, attempt, Math.random()), undefined, { signal }).catch(() => 'stopping')
      }
    }
    if (this.#server === undefined || this.#pid === pid) return
    log('the embedded PostgreSQL runs again', { pid: this.#pid })
    for (const listener of this.#restartListeners) listener()
  }

  async #stop(): Promise<void> {
    this.#stopping.abort()
    await this.#recovery
    if (this.#server === undefined) return
    const { session, pid } = this.#server
    const { folder } = this.#start
    await stopPostmaster(folder.cluster, pid)
    await session.close()
    await removeSocketFolder(folder)
  }
}

const addressOf = (folder: ClusterFolder, database: string): SocketAddress => ({
  host: folder.socketDir,
  port: PORT,
  user: EMBEDDED_USER,
  database,
})

/** A session that holds the supervisor's lock, on a server of our version that serves our folder. */
async function reachServer(start: Start): Promise<Reached> {
  const { folder, log } = start
  let launched: Launched | undefined
  for (let launches = 0; launches < LAUNCHES; ) {
    const session = await openSession(folder)
    if (session === undefined) {
      launches++
      launched = await launch(start)
      continue
    }
    try {
      const running = await examineServer(session, folder)
      await takeLock(session, start.dataDir)
      if (running.version === folder.binaries.version) {
        await ensureDatabase(session)
        return { session, ...running, adopted: running.pid !== launched?.pid }
      }
      log('restarting the embedded PostgreSQL with our version', { from: running.version })
      await stopPostmaster(folder.cluster, running.pid)
    } catch (error) {
      await session.close()
      throw error
    }
    await session.close()
  }
  throw new GateError(
    'SERVICE_UNAVAILABLE',
    `The embedded PostgreSQL does not start: ${await launched?.output()}`,
    {
      hint: `Mend what it names (all of it is in ${folder.logFile}), or name a PostgreSQL in DATABASE_URL.`,
    },
  )
}

/** Starts the server; fulfils when its pid file names it, or when it has given up (one of another start may run). */
async function launch(start: Start): Promise<Launched> {
  const { folder, log } = start
  const orphans = await clearRemains(folder)
  if (orphans > 0) log('ended processes that a killed PostgreSQL had left', { orphans })
  await makeSocketFolder(folder)
  const launched = await launchPostmaster(folder, start.lifetime, start.settings ?? {})
  let isOver = false
  const exited = launched.exited.then(() => {
    isOver = true
  })
  while (!isOver && (await readPostmaster(folder.cluster))?.pid !== launched.pid) {
    await Promise.race([exited, pause(POLL_MS)])
  }
  return launched
}

/** Waits for a server that is starting, recovering or stopping; undefined when none runs (any more). */
async function openSession(folder: ClusterFolder): Promise<DedicatedConnection | undefined> {
  let end = performance.now() + SOCKET_PATIENCE_MS
  for (;;) {
    const postmaster = await readPostmaster(folder.cluster)
    if (postmaster === undefined || !(await isPostmaster(folder.cluster, postmaster.pid))) return undefined
    const host = postmaster.socketDir || folder.socketDir
    try {
      return await openConnection({ ...addressOf(folder, 'postgres'), host }, SESSION_SETTINGS)
    } catch (error) {
      if (!(error instanceof DatabaseError && error.isConnectionLost)) throw error
      if (error.sqlState === CANNOT_CONNECT_NOW) end = performance.now() + SOCKET_PATIENCE_MS
      if (performance.now() > end) {
        const { pid } = postmaster
        throw new GateError(
          'SERVICE_UNAVAILABLE',
          `PostgreSQL (process ${pid}) does not answer in ${host}.`,
          {
            hint: `Its socket may have been removed. Stop it with "kill -INT ${pid}" and start again.`,
            cause: error,
          },
        )
      }
    }
    await pause(POLL_MS)
  }
}

/** Makes sure that the server behind the socket is the one of this folder, not of a copy or a namesake. */
async function examineServer(
  session: DedicatedConnection,
  folder: ClusterFolder,
): Promise<{ version: string; pid: number; socketDir: string }> {
  const [server] = await session.query<{ folder: string; identifier: string; version: string }>(
    `select current_setting('data_directory') as folder, system_identifier::text as identifier,
       split_part(current_setting('server_version'), ' ', 1) as version
     from pg_control_system()`,
  )
  const postmaster = await readPostmaster(folder.cluster)
  const identifier = await readSystemIdentifier(folder.cluster)
  if (!server || !postmaster || server.folder !== folder.cluster || server.identifier !== identifier) {
    throw new GateError(
      'CONFLICT',
      `The PostgreSQL that answers for ${folder.cluster} serves another folder.`,
      {
        hint: `Stop the server of ${server?.folder}, and start again.`,
      },
    )
  }
  return { version: server.version, pid: postmaster.pid, socketDir: postmaster.socketDir || folder.socketDir }
}

/** The first eight bytes of `pg_control`. */
async function readSystemIdentifier(cluster: string): Promise<string> {
  const file = await open(join(cluster, 'global/pg_control'), 'r')
  try {
    const { buffer } = await file.read(Buffer.alloc(8), 0, 8, 0)
    return buffer.readBigUInt64LE().toString()
  } finally {
    await file.close()
  }
}

async function takeLock(session: DedicatedConnection, dataDir: string): Promise<void> {
  const end = performance.now() + LOCK_PATIENCE_MS
  for (;;) {
    const [row] = await session.query<{ taken: boolean }>(
      'select pg_try_advisory_lock($1, $2) as taken',
      SUPERVISOR_LOCK,
    )
    if (row?.taken) return
    if (performance.now() > end) break
    await pause(POLL_MS)
  }
  const [holder] = await session.query<{ name: string }>(
    `select application_name as name from pg_stat_activity join pg_locks using (pid)
     where locktype = 'advisory' and classid = $1::int8 and objid = $2::int8 and granted`,
    SUPERVISOR_LOCK,
  )
  throw new GateError('CONFLICT', `Another gateway (${holder?.name}) already runs on ${dataDir}.`, {
    hint: 'Stop it first, or name another folder in AGENTGATE_DATA_DIR; "start --role worker" joins it as a guest.',
  })
}

async function ensureDatabase(session: DedicatedConnection): Promise<void> {
  const found = await session.query('select from pg_database where datname = $1', [EMBEDDED_DATABASE])
  if (found.length === 0) await session.query(`create database ${EMBEDDED_DATABASE}`)
}
