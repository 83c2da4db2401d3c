/**
 * Submits a work order and waits for its pull request.
 *
 *   AGENTGATE_API_KEY=… AGENTGATE_BASE_URL=… node --import tsx examples/polling.ts REPOSITORY PROMPT
 */
import { fileURLToPath } from 'node:url'
import { AgentGate, type Run } from 'agentgate-sdk'

export interface Task {
  repository: string
  taskPrompt: string
}

/** Tells each event's type as it happens, and gives the run when it is final or needs somebody. */
export async function runTask(client: AgentGate, task: Task, tell: (line: string) => void): Promise<Run> {
  const { runId } = await client.workOrders.create({
    taskPrompt: task.taskPrompt,
    workspaceSource: { type: 'git', repository: task.repository },
  })
  for await (const event of client.runs.events(runId, { follow: true })) {
    tell(`${event.seq} ${event.type}`)
    if (event.type === 'run.tool_required' || event.type === 'run.waiting_approval') break
  }
  // Without interest in the events, this call alone would do: it waits by itself.
  return client.runs.wait(runId)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [repository = '', taskPrompt = ''] = process.argv.slice(2)
  const run = await runTask(new AgentGate(), { repository, taskPrompt }, (line) => console.error(line))
  if (run.status === 'succeeded') console.log(run.prUrl ?? 'done, without a pull request')
  else console.error(`${run.status}: ${run.error?.message ?? run.statusReason}`)
  process.exitCode = run.status === 'succeeded' ? 0 : 1
}
