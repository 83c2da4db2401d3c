import { linkSync, lstatSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { needsRoot } from '../../test/harness/report.ts'
import { openFolder } from './jail-fixture.ts'
import { giveTree } from './ownership.ts'

const UID = 60_001
let folder: string

beforeEach(() => {
  folder = openFolder()
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const uidOf = (name: string): number => lstatSync(join(folder, name)).uid

describe.skipIf(needsRoot('giving a tree to another user'))('giving a tree to a slot', () => {
  test('a tree changes its owner as a whole, links themselves included', async () => {
    mkdirSync(join(folder, 'tree/-deep name'), { recursive: true })
    writeFileSync(join(folder, 'tree/-deep name/file'), '')
    writeFileSync(join(folder, 'outside'), '')
    symlinkSync(join(folder, 'outside'), join(folder, 'tree/link'))

    await giveTree(join(folder, 'tree'), UID, UID)

    expect(['tree', 'tree/-deep name', 'tree/-deep name/file', 'tree/link'].map(uidOf)).toEqual([
      UID,
      UID,
      UID,
      UID,
    ])
    expect(uidOf('outside')).toBe(0)
  })

  test('a file that is also linked from outside stays as it is', async () => {
    mkdirSync(join(folder, 'tree'))
    writeFileSync(join(folder, 'mirror-object'), '')
    linkSync(join(folder, 'mirror-object'), join(folder, 'tree/object'))

    await giveTree(join(folder, 'tree'), UID, UID)

    expect(uidOf('mirror-object')).toBe(0)
  })

  test('a file with all of its links inside changes its owner, whatever its name', async () => {
    mkdirSync(join(folder, 'tree'))
    const name = Buffer.concat([Buffer.from(join(folder, 'tree/odd ')), Buffer.from([0xff, 0x0a])])
    writeFileSync(name, '')
    linkSync(name, join(folder, 'tree/second'))

    await giveTree(join(folder, 'tree'), UID, UID)

    expect(uidOf('tree/second')).toBe(UID)
  })

  test('a large tree is given by the same rules', async () => {
    mkdirSync(join(folder, 'tree'))
    for (let i = 0; i < 300; i++) writeFileSync(join(folder, 'tree', `file-${i}`), '')
    const name = Buffer.concat([Buffer.from(join(folder, 'tree/odd ')), Buffer.from([0xff, 0x0a])])
    writeFileSync(name, '')
    linkSync(name, join(folder, 'tree/second'))
    writeFileSync(join(folder, 'mirror-object'), '')
    linkSync(join(folder, 'mirror-object'), join(folder, 'tree/object'))
    symlinkSync(join(folder, 'mirror-object'), join(folder, 'tree/link'))

    await giveTree(join(folder, 'tree'), UID, UID)

    expect(['tree', 'tree/file-299', 'tree/second', 'tree/link'].map(uidOf)).toEqual([UID, UID, UID, UID])
    expect(uidOf('mirror-object')).toBe(0)
  })

  test('a tree that does not exist is an error', async () => {
    await expect(giveTree(join(folder, 'nothing'), UID, UID)).rejects.toThrow('no such file')
  })
})
