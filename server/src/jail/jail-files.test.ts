import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { needsRoot } from '../../test/harness/report.ts'
import { jailRoot } from './jail.ts'
import { openFolder } from './jail-fixture.ts'

let folder: string
beforeEach(() => {
  folder = openFolder()
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

test('workspaces lie in the data folder when every uid can enter it', () => {
  expect(jailRoot(folder)).toBe(join(folder, 'work'))
})

describe.skipIf(needsRoot('a folder for jails of other users'))('a server that runs as root', () => {
  test('keeps workspaces apart from a data folder that other uids cannot enter, whatever its umask', () => {
    const dataDir = join(folder, 'closed/data')
    mkdirSync(dataDir, { recursive: true })
    chmodSync(join(folder, 'closed'), 0o700)
    const umask = process.umask(0o077)
    const root = jailRoot(dataDir)
    process.umask(umask)

    expect(root).toMatch(/^\/var\/lib\/agentgate\/work\/[0-9a-f]{12}$/)
    expect(jailRoot(dataDir)).toBe(root)
    expect(statSync('/var/lib/agentgate/work').mode & 0o777).toBe(0o711)
    expect(statSync(root).mode & 0o777).toBe(0o711)
    rmSync(root, { recursive: true })
  })

  test('gives its own node to the jail when that lies where other uids cannot enter', () => {
    const program = join(folder, 'closed/bin/node')
    mkdirSync(join(folder, 'closed/bin'), { recursive: true })
    chmodSync(join(folder, 'closed'), 0o700)
    copyFileSync(process.execPath, program)
    mkdirSync(join(folder, 'root'))

    const output = execFileSync(program, ['--import', 'tsx', '--input-type=module', '-e', RUN_NODE], {
      env: { ...process.env, ROOT: join(folder, 'root') },
      encoding: 'utf8',
    })

    expect(output).toBe('/opt/node/bin/node\n')
  })
})

const RUN_NODE = `
import { mkdirSync } from 'node:fs'
import { openJails } from ${JSON.stringify(new URL('./jail.ts', import.meta.url).href)}
process.umask(0o077)
const root = process.env.ROOT
const workspace = root + '/workspace'
mkdirSync(workspace)
const log = { info() {}, warn: console.log }
const jails = await openJails({ log, slots: 1, preferred: 'bubblewrap', root })
const slot = await jails.acquireSlot()
await slot.own(workspace)
const argv = ['node', '-p', 'process.execPath']
const signal = new AbortController().signal
const result = await slot.run({ argv, workspace, timeoutMs: 60000, maxOutputBytes: 1000, signal })
process.stdout.write(result.output)
await jails[Symbol.asyncDispose]()
`
