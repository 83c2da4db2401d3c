/**
 * Runs test files against PostgreSQL 15 instead of the embedded 18: starts a throw-away cluster of Debian's
 * `postgresql-15` under a uid of its own, and removes it afterwards. `node scripts/test-postgresql-15.mjs [file…]`;
 * without files, the whole suite.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const PROGRAMS = '/usr/lib/postgresql/15/bin'
const ROOT = fileURLToPath(new URL('..', import.meta.url))
/** Nothing else runs as it; the embedded server has the one before. */
const UID = 59_998
const FAST = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', max_connections: '300' }

if (!existsSync(join(PROGRAMS, 'initdb'))) {
  console.error(`${PROGRAMS} is missing. On Debian and Ubuntu: apt-get install postgresql-15`)
  process.exit(69)
}

const isRoot = process.getuid() === 0
const user = isRoot ? { uid: UID, gid: UID } : {}
const folder = mkdtempSync('/var/tmp/agentgate-pg15-')
const data = join(folder, 'data')
const environment = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' }

process.exitCode = await run()

async function run() {
  let server
  try {
    chmodSync(folder, 0o755)
    if (isRoot) chownSync(folder, UID, UID)
    initialise()
    server = await start()
    return await test()
  } finally {
    if (server) await stop(server)
    rmSync(folder, { recursive: true, force: true })
  }
}

/** `initdb` wants a user with a name; a user namespace gives the uid one that the system has. */
function initialise() {
  const named = isRoot ? ['unshare', '--user', '--map-user=1', '--map-group=1'] : []
  const access = ['--username=agentgate', '--auth=trust']
  const locale = ['--encoding=UTF8', '--locale=C.UTF-8']
  const command = [...named, join(PROGRAMS, 'initdb'), '-D', data, ...access, ...locale, '--no-sync']
  const [program, ...args] = command
  execFileSync(program, args, { ...user, env: environment, cwd: '/', stdio: ['ignore', 'ignore', 'inherit'] })
}

async function start() {
  const settings = {
    ...FAST,
    listen_addresses: '',
    unix_socket_directories: folder,
    timezone: 'UTC',
    jit: 'off',
  }
  const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const program = join(PROGRAMS, 'postgres')
  const server = spawn('setpriv', ['--pdeathsig', 'INT', program, '-D', data, ...args], {
    ...user,
    env: environment,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let log = ''
  server.stderr.on('data', (text) => {
    log = (log + text).slice(-100_000)
  })
  await new Promise((resolve, reject) => {
    server.stderr.on('data', () => log.includes('ready to accept connections') && resolve())
    server.once('exit', (code) => reject(new Error(`postgres ended with ${code}:\n${log}`)))
  })
  return server
}

function stop(server) {
  return new Promise((resolve) => {
    server.removeAllListeners('exit').once('exit', resolve)
    server.kill('SIGINT')
  })
}

/** Without blocking: a server whose log nobody reads stands still when the pipe is full. */
async function test() {
  const url = `postgresql://agentgate@localhost/postgres?host=${encodeURIComponent(folder)}`
  const tests = spawn(
    process.execPath,
    [join(ROOT, 'node_modules/vitest/vitest.mjs'), 'run', ...process.argv.slice(2)],
    { cwd: ROOT, stdio: 'inherit', env: { ...process.env, AGENTGATE_TEST_DATABASE_URL: url } },
  )
  const [status] = await once(tests, 'exit')
  return status ?? 1
}
