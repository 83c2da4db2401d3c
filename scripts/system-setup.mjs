// Makes sure that the system packages a run and the tests need are there: installs them where it may (root on
// Debian or Ubuntu), and otherwise names the command. Only node: imports, because it runs before npm ci.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

/** Every package, and how to tell that it is there: a file that is quick to find, or the answer of a program. */
const PACKAGES = {
  bubblewrap: { file: '/usr/bin/bwrap' },
  'python3-requests': { file: '/usr/lib/python3/dist-packages/requests/__init__.py', module: 'requests' },
  'python3-flask': { file: '/usr/lib/python3/dist-packages/flask/__init__.py', module: 'flask' },
}

const isThere = (name) => {
  const { file, module } = PACKAGES[name]
  if (existsSync(file)) return true
  return module !== undefined && runs('/usr/bin/python3', ['-c', `import ${module}`])
}

const runs = (file, args) =>
  spawnSync(file, args, {
    stdio: 'ignore',
    timeout: 300_000,
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  }).status === 0

const install = (names) =>
  runs('apt-get', ['-o', 'DPkg::Lock::Timeout=60', 'install', '-y', '--no-install-recommends', ...names])

/**
 * Installs what is missing if it may, and never throws for what it may not.
 * Returns the names of packages that are still missing, and the command that installs them.
 */
export function ensureSystemPackages({ packages = Object.keys(PACKAGES), quiet = false } = {}) {
  const say = (text) => quiet || process.stderr.write(`${text}\n`)
  let missing = packages.filter((name) => !isThere(name))
  const isDebian = missing.length > 0 && existsSync('/etc/debian_version')
  if (isDebian && process.getuid?.() === 0) {
    say(`installing ${missing.join(', ')}`)
    // The package lists may be missing or old: they are renewed only when the first try fails.
    if (!install(missing) && runs('apt-get', ['update'])) install(missing)
    missing = missing.filter((name) => !isThere(name))
  }
  if (missing.length === 0) return { missing, command: undefined }
  const command = isDebian
    ? `sudo apt-get update && sudo apt-get install -y ${missing.join(' ')}`
    : `install ${missing.join(', ')} (the names of the Debian packages) with the package manager of this system`
  say(`missing: ${missing.join(', ')}\n  ${command}`)
  return { missing, command }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { missing } = ensureSystemPackages()
  process.exitCode = missing.length === 0 ? 0 : 1
}
