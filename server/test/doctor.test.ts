import { once } from 'node:events'
import { chmod, mkdir, statfs, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { findForeignEntry } from '../src/cli/data-folder.ts'
import type { Finding } from '../src/cli/doctor/finding.ts'
import { examineDataFolder, examineDisk } from '../src/cli/doctor/folders.ts'
import { examineMasterKey } from '../src/cli/doctor/master-key.ts'
import { examineDatabase, examinePort, examineProviders } from '../src/cli/doctor/places.ts'
import { examineGit, examineJail, examineNode, examinePython } from '../src/cli/doctor/programs.ts'
import { readConfig } from '../src/config.ts'
import { Secret } from '../src/lib/secret.ts'
import { startEmbeddedPostgres } from '../src/storage/embedded-postgres.ts'
import { loadMasterKey } from '../src/vault/master-key.ts'
import { command, temporaryFolder } from './harness/command-line.ts'
import { startGate } from './harness/gate.ts'
import { startPooler } from './harness/pooler.ts'
import { provideEmptyDatabase, provideTestDatabase } from './harness/postgres.ts'

const problem = (name: string, text: RegExp): Finding =>
  expect.objectContaining({ name, standing: 'problem', text: expect.stringMatching(text) })
const warning = (name: string, text: RegExp): Finding =>
  expect.objectContaining({ name, standing: 'warning', text: expect.stringMatching(text) })

describe('programs', () => {
  const there = { path: process.env.PATH ?? '', bwrap: '/usr/bin/bwrap', python: '/usr/bin/python3' }

  test('an old Node is found', () => {
    expect(examineNode('18.20.0')).toEqual(problem('node', /too old/))
    expect(examineNode('20.19.0').standing).toBe('ok')
    expect(examineNode('24.1.0').standing).toBe('ok')
  })

  test('a PATH without git is found', async () => {
    expect(await examineGit(there)).toMatchObject({ standing: 'ok', text: expect.stringMatching(/^\d/) })
    expect(await examineGit({ ...there, path: '/nonexistent' })).toEqual(problem('git', /none on PATH/))
  })

  test('modules of Python are found, and those that are missing are a warning', async () => {
    const bare = await programFile('exec /usr/bin/python3 -I -S "$@"')
    expect(await examinePython(there)).toMatchObject({ standing: 'ok', text: expect.stringMatching(/flask/) })
    for (const python of ['/nonexistent', bare]) {
      expect(await examinePython({ ...there, python })).toEqual(
        warning('python modules', /requests and flask/),
      )
    }
  })

  test('the jail and each of its promises are tried', async () => {
    const findings = await examineJail(there, { preferred: 'bubblewrap' })
    expect(findings.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['bubblewrap', 'jail', 'jail: network', 'jail: memory']),
    )
    expect(findings.filter(({ standing }) => standing === 'problem')).toEqual([])
  }, 60_000)

  test('a missing bubblewrap is found, and is a warning to who does without', async () => {
    const without = { ...there, bwrap: '/nonexistent/bwrap' }
    const findings = await examineJail(without, { preferred: 'bubblewrap' })
    expect(findings).toContainEqual(problem('bubblewrap', /no working/))
    expect(findings).toContainEqual(problem('jail', /refused/))
    expect(findings[0]?.remedy).toContain('apt-get install bubblewrap')
    expect((await examineJail(without, { preferred: 'none' })).map(({ standing }) => standing)).toEqual([
      'warning',
      'warning',
    ])
  })

  test('a kernel that lets nobody make a jail is found, with what to allow', async () => {
    const bwrap = await programFile(
      '[ "$1" = --version ] && exec /usr/bin/bwrap --version\necho "bwrap: No permissions to create new namespace" >&2\nexit 1',
    )
    const findings = await examineJail({ ...there, bwrap }, { preferred: 'bubblewrap' })
    expect(findings).toEqual([
      expect.objectContaining({ name: 'bubblewrap', standing: 'ok' }),
      problem('jail', /refused: .*No permissions.*kernel\.unprivileged_userns_clone=1/),
    ])
  })

  test('a promise that the jail does not keep is a warning', async () => {
    const weaken = [
      's/^--unshare-all$/--unshare-uts/',
      '/^--proc$/{N;s/.*/--ro-bind\\n\\/proc\\n\\/proc/}',
      '/^--remount-ro$/{N;d}',
      '/^--disable-userns$/d',
      '/^--size$/{N;d}',
    ].map((edit) => `-e '${edit}'`)
    const options = `tr '\\0' '\\n' <&4 | sed ${weaken.join(' ')} | tr '\\n' '\\0'`
    const bwrap = await programFile(`${options} | (exec 4<&0 0</dev/null; exec /usr/bin/bwrap "$@")`)
    const findings = await examineJail({ ...there, bwrap }, { preferred: 'bubblewrap' })
    for (const promise of [
      'network',
      'processes of the host',
      'system',
      'user namespaces',
      'temporary files',
    ]) {
      expect(findings).toContainEqual(warning(`jail: ${promise}`, /./))
    }
  }, 60_000)
})

/** A program of a few lines of shell. */
async function programFile(script: string): Promise<string> {
  const file = join(await temporaryFolder(), 'program')
  await writeFile(file, `#!/bin/sh\n${script}\n`)
  await chmod(file, 0o755)
  return file
}

describe('places', () => {
  test('a data folder of others, and one that cannot be made, are found', async () => {
    const folder = await temporaryFolder()
    expect(await examineDataFolder(join(folder, 'new/deep'))).toMatchObject({ standing: 'ok' })
    await writeFile(join(folder, 'thesis.txt'), 'mine')
    expect(findForeignEntry(folder)).toBe('thesis.txt')
    expect(await examineDataFolder(folder)).toEqual(problem('data folder', /holds thesis\.txt/))
    expect(await examineDataFolder(join(folder, 'thesis.txt/data'))).toEqual(
      problem('data folder', /not ours|cannot/),
    )
    expect(await examineDataFolder('/proc/agentgate')).toEqual(problem('data folder', /cannot be written/))
  })

  test('a disk that is nearly full is a warning, and one on which runs are refused is a problem', async () => {
    const dataDir = await temporaryFolder()
    const { bavail, bsize } = await statfs(dataDir)
    const with_ = (share: number) => examineDisk({ dataDir, minDiskBytes: share * bavail * bsize })
    expect(await with_(0)).toMatchObject({ standing: 'ok', text: expect.stringMatching(/GiB free/) })
    expect(await with_(0.5)).toEqual(warning('disk', /GiB free/))
    expect(await with_(2)).toEqual(problem('disk', /new runs are refused/))
  })

  test('a port in use is found, and a gateway on it is none', async () => {
    const other = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1')
    await once(other, 'listening')
    onTestFinished(() => void other.close())
    const address = other.address()
    const port = typeof address === 'object' && address ? address.port : 0
    expect(await examinePort({ host: '127.0.0.1', port })).toEqual(problem('port', /EADDRINUSE/))
    await using gate = await startGate()
    const taken = { host: '127.0.0.1', port: Number(new URL(gate.url).port) }
    expect(await examinePort(taken)).toMatchObject({
      standing: 'ok',
      text: expect.stringContaining('gateway'),
    })
  })

  test('providers are named, and their keys are not', () => {
    const finding = examineProviders(readConfig({ OPENAI_API_KEY: 'sk-very-secret' }))
    expect(finding).toMatchObject({ standing: 'ok', text: expect.stringContaining('openai') })
    expect(JSON.stringify(finding)).not.toContain('sk-very')
    expect(examineProviders(readConfig({})).standing).toBe('warning')
  })
})

describe('the database', () => {
  test('that does not answer is found', async () => {
    const databaseUrl = new Secret(await provideTestDatabase())
    expect(await examineDatabase({ databaseUrl })).toMatchObject({ standing: 'ok' })
    const away = new Secret('postgresql://nobody:hunter2@127.0.0.1:9/none')
    const finding = await examineDatabase({ databaseUrl: away })
    expect(finding).toEqual(problem('database', /does not work/))
    expect(JSON.stringify(finding)).not.toContain('hunter2')
  })

  test('behind a transaction pooler is found, with the way out', async () => {
    await using pooler = await startPooler(await provideTestDatabase())
    const finding = await examineDatabase({ databaseUrl: new Secret(pooler.url) })
    expect(finding).toEqual(problem('database', /transaction pooler/))
    expect(finding.remedy).toContain('session pool')
  })

  test('that is embedded is started, and where that fails is a problem', async () => {
    expect(await examineDatabase({ databaseUrl: null })).toMatchObject({
      name: 'embedded database',
      standing: 'ok',
    })
    expect(await examineDatabase({ databaseUrl: null }, '/proc')).toEqual(
      problem('embedded database', /\/proc/),
    )
  }, 60_000)
})

describe('the master key', () => {
  const KEY = new Secret(Buffer.alloc(32, 7).toString('base64'))
  const OTHER = new Secret(Buffer.alloc(32, 8).toString('base64'))

  test('of a new folder is yet to be made; one that is gone or damaged is found', async () => {
    const dataDir = await temporaryFolder()
    const place = { masterKey: null, databaseUrl: null, dataDir }
    expect(await examineMasterKey(place)).toMatchObject({ standing: 'ok', text: 'the first start makes it' })
    await mkdir(join(dataDir, 'postgresql'))
    await writeFile(join(dataDir, 'postgresql/agentgate-data.json'), '{"cluster":"cluster"}')
    expect(await examineMasterKey(place)).toEqual(problem('master key', /master\.key is gone/))
    await writeFile(join(dataDir, 'master.key'), 'half of i')
    expect(await examineMasterKey(place)).toEqual(problem('master key', /not 32 bytes/))
  })

  test('is compared with the one that the database was sealed with', async () => {
    const dataDir = await temporaryFolder()
    const [url, empty] = [await provideTestDatabase(), await provideEmptyDatabase()]
    const examine = (masterKey: Secret, databaseUrl: string) =>
      examineMasterKey({ masterKey, databaseUrl: new Secret(databaseUrl), dataDir })
    expect(await examine(OTHER, empty)).toMatchObject({ standing: 'ok' })
    await using _gate = await startGate({ env: { DATABASE_URL: url, AGENTGATE_MASTER_KEY: KEY.reveal() } })
    expect(await examine(KEY, url)).toMatchObject({ standing: 'ok' })
    expect(await examine(OTHER, url)).toEqual(problem('master key', /not the one.*sealed with/))
    expect(await examine(OTHER, 'postgresql://nobody@127.0.0.1:9/none')).toMatchObject({
      standing: 'ok',
      text: expect.stringContaining('no database was there'),
    })
  })

  test('of an embedded database is compared while it runs', async () => {
    const dataDir = await temporaryFolder()
    const place = { masterKey: null, databaseUrl: null, dataDir }
    await loadMasterKey(dataDir)
    expect((await examineMasterKey(place)).text).toContain('no database was there')
    await using _running = await startEmbeddedPostgres({
      dataDir: join(dataDir, 'postgresql'),
      log: () => undefined,
      lifetime: 'with-parent',
    })
    expect((await examineMasterKey(place)).text).toMatch(/^[0-9a-f]{16}$/)
  })
})

test('as JSON it says whether all is well, and wrong settings are findings', async () => {
  const { code, out } = await command(['doctor', '--json'], { PATH: '/nonexistent', PORT: 'eighty' })
  expect(code).toBe(1)
  const report: { ok: boolean; findings: Finding[] } = JSON.parse(out)
  expect(report.ok).toBe(false)
  expect(report.findings).toContainEqual(problem('settings', /PORT/))
  expect(report.findings).toContainEqual(problem('git', /none/))
})
