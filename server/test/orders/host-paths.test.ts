import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { CreateWorkOrderRequest, Run } from '../../../sdk/typescript/src/index.ts'
import { jailRoot } from '../../src/jail/jail.ts'
import { ANSWERED, type Cases, type Hosted, startCases } from '../harness/cases.ts'

let dataDir: string
let cases: Cases
let hosted: Hosted

beforeAll(async () => {
  dataDir = await mkdtemp('/var/tmp/agentgate-paths-')
  await chmod(dataDir, 0o711)
  cases = await startCases([], { AGENTGATE_DATA_DIR: dataDir })
  hosted = await cases.host({ private: false })
})
afterAll(async () => {
  await cases?.[Symbol.asyncDispose]()
  await rm(dataDir, { recursive: true, force: true })
})

const WRITE = { tool: 'write_file', arguments: { path: 'answer.txt', content: 'right\n' } }
/** Wherever a process in the jail may read where its files are on the host. */
const LOOK =
  'pwd; cat /proc/self/mountinfo /proc/mounts; ls -l /proc/self/cwd; git rev-parse --absolute-git-dir; env'

type Wish = Partial<CreateWorkOrderRequest> & { calls?: { tool: string; arguments: object }[] }

async function tryOrder({ calls = [], ...order }: Wish): Promise<Run> {
  const { testClient } = cases.here.gate
  const steps = [...calls.map((call) => ({ calls: [call] })), { text: 'Done.' }]
  const { runId } = await testClient.workOrders.create({
    taskPrompt: 'Look around.',
    workspaceSource: { type: 'git', repository: hosted.repository },
    webhookUrl: cases.here.receiver.url,
    maxIterations: 1,
    test: { script: { steps } },
    ...order,
  } as CreateWorkOrderRequest) // a script of a test may hold any arguments
  return testClient.runs.wait(runId, { timeout: 60_000 })
}

/** Everything that a client is shown or sent about a run. */
async function shown(run: Run): Promise<string> {
  const { gate, receiver } = cases.here
  const { runs, workOrders } = gate.testClient
  const texts: unknown[] = [run, await workOrders.get(run.workOrderId ?? '')]
  for await (const event of runs.events(run.id, { limit: 100 })) texts.push(event)
  for await (const artifact of runs.artifacts.list(run.id))
    texts.push(artifact, (await runs.artifacts.get(run.id, artifact.name)).text())
  await receiver.wait(({ body }) => body.includes(run.id) && body.includes(`run.${run.state}`))
  texts.push(receiver.received.map(({ body, headers }) => [body, headers]))
  return JSON.stringify(texts)
}

const look = { type: 'command', run: LOOK } as const

test.each<[string, string, Wish]>([
  ['completed', 'completed', { calls: [WRITE], gatePlan: ANSWERED }],
  [
    'completed',
    'completed',
    {
      calls: [WRITE, { tool: 'run_command', arguments: { command: LOOK } }],
      gatePlan: { setup: [LOOK], gates: [{ name: 'look', level: 'L1', check: look }] },
    },
  ],
  ['completed', 'no_changes', { calls: [{ tool: 'read_file', arguments: { path: '../../../etc/passwd' } }] }],
  ['failed', 'limit_iterations', { calls: [], gatePlan: ANSWERED }],
  ['failed', 'workspace_failed', { gatePlan: { setup: [`${LOOK}; exit 3`], gates: [] } }],
  [
    'failed',
    'source_unavailable',
    { workspaceSource: { type: 'git', repository: 'http://127.0.0.1:9/a/b.git' } },
  ],
])('a test run that ends as %s (%s) tells no path of the host', async (state, reason, wish) => {
  const run = await tryOrder(wish)
  expect(run).toMatchObject({ state, statusReason: reason })
  const text = await shown(run)
  for (const path of [dataDir, jailRoot(dataDir), 'file:', 'test-remotes']) expect(text).not.toContain(path)
})
