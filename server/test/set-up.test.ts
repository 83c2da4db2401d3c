import { spawn } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { temporaryFolder } from './harness/command-line.ts'

const SCRIPT = new URL('../../scripts/system-setup.mjs', import.meta.url).href

/** What apt-get answers; `$ROOT` is the machine, `$1` its command. It keeps what it was asked in `asked`. */
const APT = {
  /** As in a new image: no lists yet. */
  newImage: `
    [ "$1" = update ] && touch "$ROOT/lists" && exit 0
    [ -e "$ROOT/lists" ] || { echo "E: Unable to locate package bubblewrap"; exit 100; }
    mkdir -p "$ROOT/usr/bin" && touch "$ROOT/usr/bin/bwrap" "$ROOT/usr/bin/make"`,
  /** One of its lists cannot be had. */
  brokenList: `
    [ "$1" = update ] && { touch "$ROOT/lists"; echo "E: The repository does not have a Release file."; exit 100; }
    [ -e "$ROOT/lists" ] || { echo "E: Unable to locate package bubblewrap"; exit 100; }
    mkdir -p "$ROOT/usr/bin" && touch "$ROOT/usr/bin/bwrap" "$ROOT/usr/bin/make"`,
  /** Somebody else holds a lock the first three times. */
  locked: `
    [ "$(wc -l < "$ROOT/asked")" -gt 3 ] || { echo "E: Could not get lock /var/lib/apt/lists/lock."; exit 100; }
    mkdir -p "$ROOT/usr/bin" && touch "$ROOT/usr/bin/bwrap" "$ROOT/usr/bin/make"`,
  alwaysLocked: 'echo "E: Could not get lock /var/lib/dpkg/lock-frontend."; exit 100',
  offline: `echo "E: Failed to fetch http://deb.example.org: Temporary failure resolving 'deb.example.org'"; exit 100`,
}

interface Machine {
  apt?: keyof typeof APT
  uid?: number
  isDebian?: boolean
}

interface Outcome {
  missing: string[]
  talk: string
  /** What apt-get was asked to do, in order. */
  asked: string[]
}

/** Sets up bubblewrap and make on a machine that has neither. */
async function setUp({ apt, uid = 0, isDebian = true }: Machine): Promise<Outcome> {
  const root = await temporaryFolder()
  await mkdir(join(root, 'programs'))
  await mkdir(join(root, 'etc'))
  await writeFile(join(root, 'asked'), '')
  if (isDebian) await writeFile(join(root, 'etc/debian_version'), '12.5\n')
  if (apt !== undefined) {
    const options = 'while [ "$1" = -o ]; do shift 2; done'
    const script = `#!/bin/sh\n${options}\necho "$*" >> "$ROOT/asked"\n${APT[apt]}\n`
    await writeFile(join(root, 'programs/apt-get'), script, { mode: 0o755 })
  }
  const path = apt === undefined ? join(root, 'programs') : `${join(root, 'programs')}:/usr/bin:/bin`
  const machine = { root, uid, env: { PATH: path, ROOT: root }, lockPatienceMs: 300, pollMs: 5 }
  const code = `import { ensureSystemPackages } from ${JSON.stringify(SCRIPT)}
    const missing = await ensureSystemPackages(['bubblewrap', 'make'], ${JSON.stringify(machine)})
    process.stdout.write(JSON.stringify(missing))`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', code])
  const [out, talk] = await Promise.all([child.stdout, child.stderr].map(async (stream) => stream.toArray()))
  const asked = (await readFile(join(root, 'asked'), 'utf8')).split('\n').filter(Boolean)
  return { missing: JSON.parse(String(out?.join(''))), talk: String(talk?.join('')), asked }
}

const INSTALL = 'install -y --no-install-recommends bubblewrap make'

test('on a new image the lists are fetched, and then the packages', async () => {
  const { missing, talk, asked } = await setUp({ apt: 'newImage' })
  expect(missing).toEqual([])
  expect(asked).toEqual([INSTALL, 'update', INSTALL])
  expect(talk).toBe('installing bubblewrap, make …\n')
})

test('a list that cannot be had does not hinder the others', async () => {
  expect(await setUp({ apt: 'brokenList' })).toMatchObject({
    missing: [],
    asked: [INSTALL, 'update', INSTALL],
  })
})

test('a lock of another program is waited for', async () => {
  const { missing, talk, asked } = await setUp({ apt: 'locked' })
  expect(missing).toEqual([])
  expect(asked).toEqual([INSTALL, INSTALL, INSTALL, INSTALL])
  expect(talk).toContain('waiting for it')
})

test('a lock that is never let go is named with the command, and it goes on', async () => {
  const { missing, talk } = await setUp({ apt: 'alwaysLocked' })
  expect(missing).toEqual(['bubblewrap', 'make'])
  expect(talk).toMatch(
    /Could not get lock[^]*missing: bubblewrap, make\n {2}apt-get update && apt-get install -y/,
  )
})

test('without a network it says what apt-get says, names the command and goes on', async () => {
  const { missing, talk } = await setUp({ apt: 'offline' })
  expect(missing).toEqual(['bubblewrap', 'make'])
  expect(talk).toMatch(
    /Temporary failure resolving[^]*\n {2}apt-get update && apt-get install -y bubblewrap make\n/,
  )
})

test('a plain user is told the command, and nothing is tried', async () => {
  const { missing, talk, asked } = await setUp({ apt: 'newImage', uid: 1000 })
  expect(missing).toEqual(['bubblewrap', 'make'])
  expect(talk).toBe(
    'missing: bubblewrap, make\n  sudo apt-get update && sudo apt-get install -y bubblewrap make\n',
  )
  expect(asked).toEqual([])
})

test('elsewhere than on Debian, and without apt-get, the packages are named', async () => {
  expect((await setUp({ isDebian: false })).talk).toMatch(/^missing: bubblewrap, make\n.*package manager/)
  expect((await setUp({})).talk).toMatch(/apt-get ENOENT[^]*missing: bubblewrap, make/)
})
