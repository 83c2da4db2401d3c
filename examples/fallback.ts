/**
 * Gives a task to the gate, and to people when the gate cannot do it.
 *
 *   AGENTGATE_API_KEY=… AGENTGATE_BASE_URL=… node --import tsx examples/fallback.ts REPOSITORY PROMPT
 */
import { fileURLToPath } from 'node:url'
import { AgentGate, AgentGateError } from 'agentgate-sdk'

export interface ManualTask {
  repository: string
  taskPrompt: string
  /** Why the gate did not do it. */
  reason: string
}

export type Outcome = { source: 'agentgate'; prUrl: string | null } | { source: 'people'; reason: string }

/** `limitMs` bounds the patience, not the run: one that is still under way then is canceled. */
export async function runOrHandOver(
  client: AgentGate,
  task: { repository: string; taskPrompt: string; limitMs: number },
  handOver: (task: ManualTask) => Promise<void>,
): Promise<Outcome> {
  const { repository, taskPrompt, limitMs } = task
  let runId: string | undefined
  let reason: string
  try {
    const order = await client.workOrders.create({ taskPrompt, workspaceSource: { type: 'git', repository } })
    runId = order.runId
    const run = await client.runs.wait(runId, { timeout: limitMs })
    if (run.status === 'succeeded') return { source: 'agentgate', prUrl: run.prUrl }
    reason = run.error?.message ?? run.statusReason
    if (run.status !== 'running') runId = undefined
  } catch (error) {
    if (!(error instanceof AgentGateError)) throw error
    reason = error.message
  }
  // Two must not work on it at once. A gate that is away now cannot cancel; the reason then stays the first one.
  if (runId !== undefined) await client.runs.cancel(runId).catch(() => undefined)
  await handOver({ repository, taskPrompt, reason })
  return { source: 'people', reason }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [repository = '', taskPrompt = ''] = process.argv.slice(2)
  const task = { repository, taskPrompt, limitMs: 30 * 60_000 }
  const outcome = await runOrHandOver(new AgentGate(), task, async ({ reason }) => {
    console.error(`For a person to do: ${taskPrompt} (${reason})`)
  })
  console.log(outcome.source === 'agentgate' ? outcome.prUrl : 'handed over')
}
