/**
 * Places a work order through an outage of minutes, exactly once.
 *
 *   AGENTGATE_API_KEY=… AGENTGATE_BASE_URL=… node --import tsx examples/retry.ts REPOSITORY PROMPT
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import {
  AgentGate,
  ConnectionError,
  type CreatedWorkOrder,
  type CreateWorkOrderRequest,
  RateLimitError,
  ServerError,
} from 'agentgate-sdk'

/**
 * Each call already repeats itself for up to a minute. Passing the same request object again keeps its
 * idempotency key: an order that did arrive before the connection broke is not placed twice.
 */
export async function submitThroughOutage(
  client: AgentGate,
  order: CreateWorkOrderRequest,
  rounds = 10,
): Promise<CreatedWorkOrder> {
  for (let round = 1; ; round++) {
    try {
      return await client.workOrders.create(order)
    } catch (error) {
      if (round === rounds || !isPassing(error)) throw error
      await sleep(error instanceof RateLimitError ? (error.retryAfter ?? 30_000) : 30_000)
    }
  }
}

const isPassing = (error: unknown): boolean =>
  error instanceof RateLimitError || error instanceof ServerError || error instanceof ConnectionError

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [repository = '', taskPrompt = ''] = process.argv.slice(2)
  const order = { taskPrompt, workspaceSource: { type: 'git', repository } } as const
  console.log((await submitThroughOutage(new AgentGate(), order)).runId)
}
