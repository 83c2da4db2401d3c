import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pino } from 'pino'
import { describe, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { openYard } from '../../src/workshop.ts'
import { jailProcesses, lackingJail } from './arena.ts'

const UID = 63_001
const settings = (dataDir: string) => ({
  AGENTGATE_DATA_DIR: dataDir,
  AGENTGATE_JAIL_SLOTS: '2',
  AGENTGATE_JAIL_UID: String(UID),
})

describe.skipIf(lackingJail !== null)('jails with uids of their own', () => {
  test('run commands as these, one for each slot, which is how tests find what is left of them', async () => {
    const dataDir = await mkdtemp('/var/tmp/agentgate-uids-')
    await chmod(dataDir, 0o711)
    const { jails, root } = await openYard(readConfig(settings(dataDir)), pino({ level: 'silent' }))
    const stop = new AbortController()
    try {
      const slots = [await jails.acquireSlot(), await jails.acquireSlot()]
      expect(slots.map(({ uid }) => uid)).toEqual([UID, UID + 1])
      const workspace = await mkdtemp(join(root, 'tree-'))
      const [slot] = slots
      await slot?.own(workspace)
      let hasBegun = false
      const running = slot?.run({
        argv: ['sh', '-c', 'echo begun; sleep 60'],
        workspace,
        timeoutMs: 60_000,
        maxOutputBytes: 100,
        signal: stop.signal,
        onOutput: () => {
          hasBegun = true
        },
      })
      await expect.poll(() => hasBegun, { timeout: 20_000 }).toBe(true)
      expect(jailProcesses({ pids: [process.pid], firstUid: UID }).join()).toContain('sleep 60')
      stop.abort()
      await running
      expect(jailProcesses({ pids: [process.pid], firstUid: UID })).toEqual([])
    } finally {
      stop.abort()
      await jails[Symbol.asyncDispose]()
      await rm(dataDir, { recursive: true, force: true })
    }
  })
})

test.each(['60000', '64001', 'nobody'])('uids that others have are refused: %s', (uid) => {
  expect(() => readConfig({ AGENTGATE_JAIL_UID: uid })).toThrow(
    'AGENTGATE_JAIL_UID must be a whole number from 60001 to 64000',
  )
})
