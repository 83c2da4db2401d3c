import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Secret } from '../lib/secret.ts'
import { loadMasterKey } from './master-key.ts'
import { createVault, mintMasterKey, parseMasterKey } from './vault.ts'

const place = { organizationId: 'org_a', purpose: 'git_credential/set_1' }
const secret = new Secret('ghp_çanary')

describe('the vault', () => {
  test('a sealed secret opens where it belongs, after a restart too', () => {
    const masterKey = mintMasterKey()
    const sealed = createVault({ masterKey }).seal(secret, place)

    expect(
      createVault({ masterKey })
        .open(sealed, { ...place })
        .reveal(),
    ).toBe('ghp_çanary')
  })

  test('sealing twice gives two different texts, and neither holds the secret', () => {
    const vault = createVault({ masterKey: mintMasterKey() })
    const [first, second] = [vault.seal(secret, place), vault.seal(secret, place)]

    expect(first.equals(second)).toBe(false)
    expect(first.includes('anary')).toBe(false)
  })

  test('another organisation or another purpose does not open it', () => {
    const vault = createVault({ masterKey: mintMasterKey() })
    const sealed = vault.seal(secret, place)

    for (const other of [
      { ...place, organizationId: 'org_b' },
      { ...place, purpose: 'git_credential/set_2' },
      { organizationId: 'org_a/git_credential', purpose: 'set_1' },
    ]) {
      expect(() => vault.open(sealed, other)).toThrow('belongs to another place')
    }
  })

  test('a change of any byte is noticed', () => {
    const vault = createVault({ masterKey: mintMasterKey() })
    const sealed = vault.seal(secret, place)

    for (let i = 0; i < sealed.length; i++) {
      const changed = Buffer.from(sealed)
      changed.writeUInt8(changed.readUInt8(i) ^ 1, i)
      expect(() => vault.open(changed, place)).toThrow('does not open')
    }
    for (let length = 0; length < sealed.length; length++) {
      expect(() => vault.open(sealed.subarray(0, length), place)).toThrow('does not open')
    }
  })

  test('another master key is named as the reason, by its id', () => {
    const [mine, other] = [
      createVault({ masterKey: mintMasterKey() }),
      createVault({ masterKey: mintMasterKey() }),
    ]
    const sealed = mine.seal(secret, place)

    expect(() => other.open(sealed, place)).toThrow(`${mine.keyId}, not ${other.keyId}`)
  })

  test('a secret that was opened still prints as [secret]', () => {
    const vault = createVault({ masterKey: mintMasterKey() })
    const opened = vault.open(vault.seal(secret, place), place)

    expect(`${String(opened)} ${JSON.stringify(opened)} ${inspect(opened)} ${inspect(vault)}`).not.toContain(
      'anary',
    )
  })
})

describe('the master key', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'agentgate-vault-'))
  })
  afterEach(() => rm(folder, { recursive: true }))

  test('it is made once, readable by its owner only, and alone in the folder', async () => {
    const first = await loadMasterKey(folder)
    const again = await loadMasterKey(folder)

    expect(again.reveal()).toBe(first.reveal())
    expect((await stat(join(folder, 'master.key'))).mode & 0o777).toBe(0o600)
    expect(await readdir(folder)).toEqual(['master.key'])
  })

  test('processes that start at once agree on one', async () => {
    const keys = await Promise.all(Array.from({ length: 8 }, () => loadMasterKey(folder)))

    expect(new Set(keys.map((key) => key.reveal())).size).toBe(1)
  })

  test.each([
    ['an empty file', ''],
    ['a short key', randomBytes(16).toString('base64')],
    ['a long key', randomBytes(33).toString('base64')],
    ['something else', 'correct horse battery staple'],
    ['a key with garbage', `${randomBytes(32).toString('base64')}!`],
  ])('%s is refused and left alone', async (_what, text) => {
    const path = join(folder, 'master.key')
    await writeFile(path, text)

    await expect(loadMasterKey(folder)).rejects.toMatchObject({ code: 'INVALID_FORMAT' })
    expect(await readFile(path, 'utf8')).toBe(text)
  })

  test('a configured key may have a line break at its end', () => {
    const key = mintMasterKey().reveal()

    expect(parseMasterKey(`${key}\n`).reveal()).toBe(key)
  })
})
