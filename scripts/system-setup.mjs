// Makes sure that the system packages a run and the tests need are there: installs them where it may (root on
// Debian or Ubuntu), and otherwise names the command. Only node: imports, because it runs before npm ci.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'

/** What the tests need besides what a run needs. */
export const FOR_TESTS = ['python3-requests', 'python3-flask', 'curl', 'make', 'openssl']
export const FOR_RUNS = ['bubblewrap']

/** Every package, and how to tell that it is there: a file that is quick to find, or the answer of a program. */
const PACKAGES = {
  bubblewrap: { file: 'usr/bin/bwrap' },
  curl: { file: 'usr/bin/curl' },
  make: { file: 'usr/bin/make' },
  openssl: { file: 'usr/bin/openssl' },
  'python3-requests': { file: 'usr/lib/python3/dist-packages/requests/__init__.py', module: 'requests' },
  'python3-flask': { file: 'usr/lib/python3/dist-packages/flask/__init__.py', module: 'flask' },
}

/** The machine as it is; a test has another. */
const MACHINE = {
  root: '/',
  uid: process.getuid?.(),
  env: process.env,
  lockPatienceMs: 120_000,
  pollMs: 1_000,
}

const APT_TIMEOUT_MS = 600_000
const LINES_SHOWN = 8
/** Of dpkg's lock apt-get can wait by itself, of the lists' it cannot; their owner may be another set-up of ours. */
const LOCKED = /Could not get lock|Unable to (?:lock|acquire)/

/**
 * Installs what is missing if it may, and never throws for what it may not: the command that does it is named, and it
 * goes on. Returns the names of packages that are still missing.
 */
export async function ensureSystemPackages(packages, machine = MACHINE) {
  let missing = await listMissing(packages, machine)
  if (missing.length === 0) return missing
  const isDebian = existsSync(join(machine.root, 'etc/debian_version'))
  if (isDebian && machine.uid === 0) {
    say(`installing ${missing.join(', ')} …`)
    const output = await install(missing, machine)
    missing = await listMissing(missing, machine)
    if (missing.length === 0) return missing
    say(output.trim().split('\n').slice(-LINES_SHOWN).join('\n'))
  }
  const sudo = machine.uid === 0 ? '' : 'sudo '
  const command = isDebian
    ? `${sudo}apt-get update && ${sudo}apt-get install -y ${missing.join(' ')}`
    : `install ${missing.join(', ')} (the names of the Debian packages) with the package manager of this system`
  say(`missing: ${missing.join(', ')}\n  ${command}`)
  return missing
}

const say = (text) => process.stderr.write(`${text}\n`)

async function listMissing(packages, machine) {
  const standings = await Promise.all(packages.map((name) => isThere(name, machine)))
  return packages.filter((_, at) => !standings[at])
}

async function isThere(name, machine) {
  const { file, module } = PACKAGES[name]
  if (existsSync(join(machine.root, file))) return true
  if (module === undefined) return false
  return (await run(join(machine.root, 'usr/bin/python3'), ['-c', `import ${module}`], machine)).works
}

/** What apt-get said last. The lists may be missing or old: they are renewed only when the first try fails. */
async function install(names, machine) {
  const args = ['-o', 'DPkg::Lock::Timeout=60', 'install', '-y', '--no-install-recommends', ...names]
  const first = await apt(args, machine)
  if (first.works) return first.output
  // One list of many that cannot be had fails the update, and may not be the one that matters.
  const update = await apt(['update'], machine)
  const second = await apt(args, machine)
  return update.works ? second.output : `${update.output}\n${second.output}`
}

async function apt(args, machine) {
  const end = performance.now() + machine.lockPatienceMs
  let isToldOf = false
  for (;;) {
    const result = await run('apt-get', args, machine)
    if (result.works || !LOCKED.test(result.output) || performance.now() > end) return result
    if (!isToldOf) say('another program installs packages; waiting for it …')
    isToldOf = true
    await pause(machine.pollMs)
  }
}

function run(file, args, { env }) {
  const options = { env: { ...env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' }, timeout: APT_TIMEOUT_MS }
  return new Promise((resolve) => {
    const child = execFile(file, args, options, (error, stdout, stderr) => {
      const said = error?.syscall ? error.message : `${stdout}${stderr}`
      resolve({ works: error === null, output: said })
    })
    child.stdin.end()
  })
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const missing = await ensureSystemPackages([...FOR_RUNS, ...FOR_TESTS])
  process.exitCode = missing.length === 0 ? 0 : 1
}
