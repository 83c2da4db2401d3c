import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { openConnection, type SocketAddress } from '../src/storage/database.ts'
import { EMBEDDED_SERVER_UID } from '../src/storage/embedded-folder.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../src/storage/embedded-postgres.ts'
import { isSkipped, needsRoot } from './harness/report.ts'

const isRoot = process.getuid?.() === 0
const PLAIN_UID = 1234
const AS_PLAIN_USER = ['setpriv', `--reuid=${PLAIN_UID}`, `--regid=${PLAIN_UID}`, '--clear-groups'] as const
/** Becoming a plain user takes root, and a plain user runs this checkout only where others may read it. */
const mayBecomePlain =
  isRoot &&
  spawnSync(AS_PLAIN_USER[0], [...AS_PLAIN_USER.slice(1), 'test', '-r', fileURLToPath(import.meta.url)])
    .status === 0
const cannotBecomePlain = isSkipped(
  mayBecomePlain ? null : 'becoming a plain user needs root and a checkout that others may read',
)
const ENTRY = fileURLToPath(new URL('harness/supervisor.ts', import.meta.url))
const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url))

interface StartedEvent {
  connection: SocketAddress
  adopted: boolean
  /** The postmaster's. */
  pid: number
}

interface Supervisor extends StartedEvent {
  child: ChildProcess
  /** The next line of JSON with this member. */
  event(member: string): Promise<Record<string, unknown>>
  stop(): Promise<void>
}

const made: string[] = []
const children: ChildProcess[] = []

afterAll(async () => {
  for (const child of children) child.kill('SIGKILL')
  for (const folder of made) await rm(folder, { recursive: true, force: true })
})

/** A folder that nobody else may enter, as `mktemp -d` makes it. */
async function privateFolder(): Promise<string> {
  const folder = await mkdtemp('/var/tmp/agentgate-embedded-')
  made.push(folder)
  return folder
}

async function sharedFolder(): Promise<string> {
  const folder = await privateFolder()
  await chmod(folder, 0o755)
  return folder
}

async function start(dataDir: string): Promise<EmbeddedPostgres> {
  const postgres = await startEmbeddedPostgres({ dataDir, log: () => undefined, lifetime: 'with-parent' })
  made.push(postgres.connection.host)
  return postgres
}

/** A supervisor in a process of its own; `before` is put in front of its command line. */
async function spawnSupervisor(
  dataDir: string,
  lifetime: string,
  before: string[] = [],
): Promise<Supervisor> {
  const command = [...before, process.execPath, '--import', 'tsx', ENTRY, dataDir, lifetime]
  const child = spawn('env', command, { cwd: REPOSITORY, stdio: ['pipe', 'pipe', 'inherit'] })
  children.push(child)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const event = async (member: string): Promise<Record<string, unknown>> => {
    for (;;) {
      const { value, done } = await lines.next()
      if (done) throw new Error(`the supervisor ended without saying ${member}`)
      const said: Record<string, unknown> = JSON.parse(value)
      if (said.refusal !== undefined && member !== 'refusal') throw new Error(value)
      if (member in said) return said
    }
  }
  const started = (await event('pid')) as unknown as StartedEvent
  made.push(started.connection.host)
  const stop = async (): Promise<void> => {
    child.stdin.end()
    await Promise.all([event('stopped'), once(child, 'exit')])
  }
  return { ...started, child, event, stop }
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL')
  await once(child, 'exit')
}

async function remember(connection: SocketAddress, word: string): Promise<void> {
  await using db = await openConnection(connection)
  await db.query('create table if not exists memory (word text)')
  await db.query('insert into memory values ($1)', [word])
}

async function recall(connection: SocketAddress): Promise<unknown[]> {
  await using db = await openConnection(connection)
  return (await db.query<{ word: string }>('select word from memory order by word')).map((row) => row.word)
}

/** Processes of the server in this cluster, by their titles and command lines. */
async function processesOf(connection: SocketAddress, cluster: string): Promise<string[]> {
  const name = connection.host.split('/').at(-1)
  const pids = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))
  const commands = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  )
  return commands.filter(
    (command) => command.startsWith(`postgres: ${name}: `) || command.split('\0').includes(cluster),
  )
}

async function gone(pid: number): Promise<void> {
  while ((await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')) !== '') {
    await new Promise((resolve) => setImmediate(resolve))
  }
}

test('a server starts on a new folder, keeps its data over a stop, and leaves no process and no socket', async () => {
  const dataDir = join(await sharedFolder(), 'data')
  const first = await start(dataDir)
  await remember(first.connection, 'kept')
  await first.stop()
  const afterStop = await processesOf(first.connection, join(dataDir, 'cluster'))
  const sockets = await readdir(dirname(first.connection.host))

  const second = await start(dataDir)
  const words = await recall(second.connection)
  const running = await processesOf(second.connection, join(dataDir, 'cluster'))
  await second.stop()

  expect(first).toMatchObject({ adopted: false, version: '18.4' })
  expect(second).toMatchObject({ adopted: false, version: '18.4', connection: first.connection })
  expect(words).toEqual(['kept'])
  expect(running.length).toBeGreaterThan(3)
  expect(afterStop).toEqual([])
  expect(sockets).not.toContain(basename(first.connection.host))
})

test('the server listens in a folder that only its own user may enter, and nowhere else', async () => {
  await using postgres = await start(join(await sharedFolder(), 'data'))
  const folder = await stat(postgres.connection.host)
  await using db = await openConnection(postgres.connection)
  const settings = await db.query<{ line: string }>(
    `select name || '=' || setting as line from pg_settings
     where name in ('listen_addresses', 'fsync', 'synchronous_commit', 'jit', 'server_encoding') order by name`,
  )

  expect(folder.mode & 0o777).toBe(0o700)
  expect(folder.uid).toBe(isRoot ? EMBEDDED_SERVER_UID : process.getuid?.())
  expect(settings.map((row) => row.line)).toEqual([
    'fsync=on',
    'jit=off',
    'listen_addresses=',
    'server_encoding=UTF8',
    'synchronous_commit=on',
  ])
})

test('the server keeps nothing in /dev/shm, where others may remove it', async () => {
  await using postgres = await start(join(await sharedFolder(), 'data'))
  await using db = await openConnection(postgres.connection)
  const [backend] = await db.query<{ pid: number }>('select pg_backend_pid() as pid')
  const maps = await readFile(`/proc/${backend?.pid}/maps`, 'utf8')

  expect(maps).toContain('pg_dynshmem')
  expect(maps).not.toContain('/dev/shm')
})

test('a server that has outlived its killed supervisor is adopted', async () => {
  const dataDir = join(await sharedFolder(), 'data')
  const killed = await spawnSupervisor(dataDir, 'adoptable')
  await remember(killed.connection, 'kept')
  await kill(killed.child)

  const heir = await start(dataDir)
  const words = await recall(heir.connection)
  await heir.stop()

  expect(heir).toMatchObject({ adopted: true, pid: killed.pid, connection: killed.connection })
  expect(words).toEqual(['kept'])
  expect(await processesOf(heir.connection, join(dataDir, 'cluster'))).toEqual([])
})

test('a second supervisor is refused, and the first goes on', async () => {
  const dataDir = join(await sharedFolder(), 'data')
  await using first = await start(dataDir)

  await expect(start(dataDir)).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining(`process ${process.pid}`),
    hint: expect.stringContaining('AGENTGATE_DATA_DIR'),
  })

  await remember(first.connection, 'still there')
  expect(await recall(first.connection)).toEqual(['still there'])
})

test('two starts on a new folder at once make one server with one supervisor', async () => {
  const dataDir = join(await privateFolder(), 'data')

  const outcomes = await Promise.allSettled([
    spawnSupervisor(dataDir, 'with-parent'),
    spawnSupervisor(dataDir, 'with-parent'),
  ])

  const started = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
  const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []))
  for (const supervisor of started) await supervisor.stop()
  await removeCluster(dataDir)
  expect(started).toHaveLength(1)
  expect(String(refused[0])).toContain('CONFLICT')
})

test('a killed postmaster is replaced while its supervisor lives, and nothing that was committed is lost', async () => {
  await using postgres = await start(join(await sharedFolder(), 'data'))
  await remember(postgres.connection, 'committed')
  const { pid } = postgres
  const restart = new Promise<void>((resolve) => postgres.onRestart(resolve))

  process.kill(pid, 'SIGKILL')
  await restart

  expect(postgres.pid).not.toBe(pid)
  expect(await recall(postgres.connection)).toEqual(['committed'])
})

test('a killed postmaster whose busy backend lives on does not hinder the next start', async () => {
  const dataDir = join(await sharedFolder(), 'data')
  const killed = await spawnSupervisor(dataDir, 'adoptable')
  await remember(killed.connection, 'committed')
  const busy = await openConnection(killed.connection)
  const forever = busy.query('select count(*) from generate_series(1, 1e12)').catch(() => 'ended')
  await kill(killed.child)
  process.kill(killed.pid, 'SIGKILL')
  await gone(killed.pid)
  const pidFile = await readFile(join(dataDir, 'cluster/postmaster.pid'), 'utf8')
  const orphans = await processesOf(killed.connection, join(dataDir, 'cluster'))

  const heir = await start(dataDir)
  const words = await recall(heir.connection)
  await heir.stop()

  expect(pidFile).toContain(String(killed.pid))
  expect(orphans.some((title) => title.includes('SELECT'))).toBe(true)
  expect(await forever).toBe('ended')
  expect(heir.adopted).toBe(false)
  expect(words).toEqual(['committed'])
})

test('a server with its parent ends when the parent is killed', async () => {
  const dataDir = join(await sharedFolder(), 'data')
  const { child, pid, connection } = await spawnSupervisor(dataDir, 'with-parent')

  await kill(child)
  await gone(pid)

  expect(await processesOf(connection, join(dataDir, 'cluster'))).toEqual([])
})

test('a folder that holds something else is refused and left alone', async () => {
  const folder = await sharedFolder()
  await writeFile(join(folder, 'thesis.txt'), 'mine')

  await expect(start(folder)).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining('thesis.txt'),
    hint: expect.stringContaining('AGENTGATE_DATA_DIR'),
  })
  expect(await readdir(folder)).toEqual(['thesis.txt'])
})

test('a cluster of another major version, and one that is gone, are refused', async () => {
  const dataDir = join(await sharedFolder(), 'data')
  await (await start(dataDir)).stop()

  await writeFile(join(dataDir, 'cluster/PG_VERSION'), '17\n')
  await expect(start(dataDir)).rejects.toMatchObject({
    code: 'CONFLICT',
    hint: expect.stringContaining('export'),
  })

  await rm(join(dataDir, 'cluster'), { recursive: true })
  await expect(start(dataDir)).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining('is gone'),
  })
})

test('a server that cannot start says what PostgreSQL said', async () => {
  const dataDir = join(await sharedFolder(), 'data')

  await expect(
    startEmbeddedPostgres({
      dataDir,
      log: () => undefined,
      lifetime: 'with-parent',
      settings: { max_connections: '0' },
    }),
  ).rejects.toMatchObject({
    code: 'SERVICE_UNAVAILABLE',
    message: expect.stringContaining('max_connections'),
  })
})

test.skipIf(needsRoot('a server of another user'))(
  'root can start it in a folder that only root may enter, with any umask',
  async () => {
    const dataDir = join(await privateFolder(), 'data')
    const umask = ['/bin/sh', '-c', 'umask 077 && exec "$@"', 'sh']
    const first = await spawnSupervisor(dataDir, 'adoptable', umask)
    await remember(first.connection, 'kept')
    await first.stop()
    const second = await spawnSupervisor(dataDir, 'adoptable', umask)
    const words = await recall(second.connection)
    await second.stop()

    const cluster = await removeCluster(dataDir)
    expect(words).toEqual(['kept'])
    expect(cluster).toMatch(/^\/var\/lib\/agentgate\/clusters\//)
  },
)

test.skipIf(cannotBecomePlain)(
  'a plain user can start it, also one without a name, and root is then refused',
  async () => {
    const home = await privateFolder()
    await chown(home, PLAIN_UID, PLAIN_UID)
    const dataDir = join(home, 'data')
    const before = [...AS_PLAIN_USER, 'env', `HOME=${home}`, `TMPDIR=${home}`]
    const first = await spawnSupervisor(dataDir, 'adoptable', before)
    await remember(first.connection, 'kept')
    await kill(first.child)
    const second = await spawnSupervisor(dataDir, 'adoptable', before)
    const words = await recall(second.connection)
    await second.stop()

    expect(second.adopted).toBe(true)
    expect(words).toEqual(['kept'])
    expect((await stat(join(dataDir, 'cluster'))).uid).toBe(PLAIN_UID)
    await expect(start(dataDir)).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('1234'),
    })
  },
)

/** Where the cluster of `dataDir` was, if it had to be outside. */
async function removeCluster(dataDir: string): Promise<string> {
  const { cluster } = JSON.parse(await readFile(join(dataDir, 'agentgate-data.json'), 'utf8')) as {
    cluster: string
  }
  if (cluster.startsWith('/')) await rm(cluster, { recursive: true, force: true })
  return cluster
}
