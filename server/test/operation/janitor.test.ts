import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { jailRoot } from '../../src/jail/jail.ts'
import { processMark } from '../../src/jail/process-mark.ts'
import { clearRemains } from '../../src/janitor.ts'
import { startGate } from '../harness/gate.ts'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'agentgate-janitor-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

const place = async (...names: string[]): Promise<string> => {
  const path = join(root, ...names)
  await mkdir(path, { recursive: true })
  return path
}

/** No process has this number. */
const DEAD = '4194305-1'

test('what dead processes left is removed, and what belongs to living ones stays', async () => {
  const dead = [await place(`jails-${DEAD}-1`, 'etc'), await place('scratch', DEAD, 'g-1')]
  const living = [await place(`jails-${processMark()}-1`), await place('scratch', processMark(1), 'g-1')]
  const scratch = await clearRemains(root)
  for (const path of dead) expect(existsSync(path)).toBe(false)
  for (const path of [...living, scratch]) expect(existsSync(path)).toBe(true)
})

test('a start removes the workspaces of runs that are over or unknown', async () => {
  const workspace = (dataDir: string, id: string) => join(jailRoot(dataDir), 'git', 'runs', id)
  const dataDir = await place('data')
  const stale = workspace(dataDir, 'run_00000000000000000000000000')
  await mkdir(stale, { recursive: true })
  await using _ = await startGate({ env: { AGENTGATE_DATA_DIR: dataDir } })
  expect(existsSync(stale)).toBe(false)
})

test('while another process works in the same folder, no workspace is removed', async () => {
  const dataDir = await place('data')
  const work = jailRoot(dataDir)
  const workspace = join(work, 'git', 'runs', 'run_00000000000000000000000000')
  await mkdir(workspace, { recursive: true })
  await mkdir(join(work, `jails-${processMark(process.ppid)}-1`), { recursive: true })
  await using _ = await startGate({ env: { AGENTGATE_DATA_DIR: dataDir } })
  expect(existsSync(workspace)).toBe(true)
})
