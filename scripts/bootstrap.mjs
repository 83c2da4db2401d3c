// Makes a fresh clone able to run: checks Node and git, installs the npm packages that package-lock.json names and
// the system packages that are asked for. Only node: imports, because it runs before npm ci.
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { ensureSystemPackages, FOR_RUNS, FOR_TESTS } from './system-setup.mjs'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
const LOWEST_NODE = [20, 19]
const OUTPUT_SHOWN = 4_000

/** What stands in the way, as a sentence for people. */
class SetupFailed extends Error {}

/**
 * Fast when there is nothing to do. `systemPackages` that may not be installed here are named with their command,
 * and it goes on: what needs them says so itself.
 */
export async function bootstrap({ systemPackages = [], needsGit = false } = {}) {
  checkNode()
  if (needsGit) checkGit()
  if (!isInstalled()) await alone(async () => isInstalled() || installPackages())
  await ensureSystemPackages(systemPackages)
}

/** Runs `action`; a failed set-up becomes a sentence and exit code 1. */
export async function orExplain(action) {
  try {
    return await action()
  } catch (error) {
    // A folder that cannot be written, a full disk: its message says which.
    if (!(error instanceof SetupFailed) && error.syscall === undefined) throw error
    process.stderr.write(`${error.message}\n`)
    process.exit(1)
  }
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const [lowestMajor, lowestMinor] = LOWEST_NODE
  if (major > lowestMajor || (major === lowestMajor && minor >= lowestMinor)) return
  throw new SetupFailed(
    `AgentGate needs Node ${LOWEST_NODE.join('.')} or newer; this is ${process.versions.node}. Get one from https://nodejs.org/.`,
  )
}

function checkGit() {
  if (spawnSync('git', ['--version'], { stdio: 'ignore' }).status === 0) return
  throw new SetupFailed('AgentGate needs git, and there is none on PATH. Install it (apt-get install git).')
}

/** Whether node_modules is what package-lock.json says: npm leaves a lockfile of what it has installed. */
function isInstalled() {
  const wanted = readPackages('package-lock.json')
  const installed = readPackages('node_modules/.package-lock.json')
  return Object.entries(wanted).every(([path, { version, integrity, link, optional, devOptional }]) => {
    if (!path.includes('node_modules/') || link) return true
    const found = installed[path]
    if (found === undefined) return Boolean(optional || devOptional)
    return found.version === version && found.integrity === integrity
  })
}

function readPackages(path) {
  try {
    return JSON.parse(readFileSync(join(ROOT, path), 'utf8')).packages ?? {}
  } catch (error) {
    if (error.code === 'ENOENT') return {}
    throw error
  }
}

/** Two starts of a fresh clone would delete each other's packages: the second one waits. */
async function alone(action) {
  const lock = join(ROOT, 'dist/install.lock')
  mkdirSync(join(ROOT, 'dist'), { recursive: true })
  for (let isToldOf = false; !takeLock(lock); isToldOf = true) {
    if (!isToldOf) process.stderr.write(`another start installs packages (${lock}); waiting for it …\n`)
    await pause(200)
  }
  try {
    await action()
  } finally {
    rmSync(lock, { force: true })
  }
}

function takeLock(lock) {
  try {
    writeFileSync(lock, String(process.pid), { flag: 'wx' })
    return true
  } catch (error) {
    if (error.code !== 'EEXIST') throw error
    if (isHeld(lock)) return false
    rmSync(lock, { force: true })
    return takeLock(lock)
  }
}

/** Whether its writer lives. An empty lock is just being written, unless it is old. */
function isHeld(lock) {
  try {
    const pid = Number(readFileSync(lock, 'utf8'))
    if (pid === 0) return Date.now() - statSync(lock).mtimeMs < 10_000
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

async function installPackages() {
  process.stderr.write('installing packages …\n')
  // Of another package manager it is not: yarn and pnpm name themselves there, too.
  const npm = process.env.npm_execpath ?? ''
  const [program, args] = npm.endsWith('npm-cli.js') ? [process.execPath, [npm]] : ['npm', []]
  const started = performance.now()
  const child = spawn(program, [...args, 'ci', '--include=dev', '--no-audit', '--no-fund'], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output = `${output}${chunk}`.slice(-OUTPUT_SHOWN)
    })
  }
  const code = await new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message)).once('close', resolve)
  })
  if (code !== 0) throw new SetupFailed(`${output}\nnpm ci failed (${code}). What it says is above.`)
  process.stderr.write(`installed in ${((performance.now() - started) / 1000).toFixed(0)} s\n`)
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const isForTests = process.argv.includes('--tests')
  const systemPackages = isForTests ? [...FOR_RUNS, ...FOR_TESTS] : []
  await orExplain(() => bootstrap({ systemPackages, needsGit: isForTests }))
}
