import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { RacePoint } from '../../src/conduct/race-points.ts'
import { jailRoot } from '../../src/jail/jail.ts'
import { ANSWERED, type Cases, type Hosted, startCases } from '../harness/cases.ts'

let dataDir: string
let cases: Cases
let hosted: Hosted
let breaksAt: RacePoint | null = null

beforeAll(async () => {
  dataDir = await mkdtemp('/var/tmp/agentgate-remains-')
  await chmod(dataDir, 0o711)
  const pause = async (point: string): Promise<void> => {
    if (point === breaksAt) throw new Error(`broken at ${point}`)
  }
  cases = await startCases([], { AGENTGATE_DATA_DIR: dataDir }, { pause })
  hosted = await cases.host({ private: false })
})
afterAll(async () => {
  await cases?.[Symbol.asyncDispose]()
  await rm(dataDir, { recursive: true, force: true })
})

test.each<RacePoint>(['workspace.opened', 'checkpoint.taken', 'gate.before', 'push.after', 'end.before'])(
  'a run that ends in an error of ours at %s leaves no workspace',
  async (point) => {
    breaksAt = point
    const { testClient } = cases.here.gate
    const write = { tool: 'write_file', arguments: { path: 'answer.txt', content: 'right\n' } }
    const { runId } = await testClient.workOrders.create({
      taskPrompt: 'Answer.',
      workspaceSource: { type: 'git', repository: hosted.repository },
      gatePlan: ANSWERED,
      test: { script: { steps: [{ text: 'I write.', calls: [write] }, { text: 'Done.' }] } },
    })
    expect(await testClient.runs.wait(runId, { timeout: 60_000 })).toMatchObject({
      state: 'failed',
      statusReason: 'system_error',
    })
    // The end of a run is announced before its worker has tidied up.
    const runs = join(jailRoot(dataDir), 'git', 'runs')
    await vi.waitFor(async () => expect(await readdir(runs)).toEqual([]), { timeout: 10_000 })
  },
)
