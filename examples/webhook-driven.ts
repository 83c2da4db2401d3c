/**
 * Submits a work order and returns at once; the gate calls back when its run is over.
 *
 *   AGENTGATE_API_KEY=… AGENTGATE_BASE_URL=… AGENTGATE_WEBHOOK_SECRET=whsec_… \
 *     node --import tsx examples/webhook-driven.ts REPOSITORY PROMPT
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import {
  AgentGate,
  isFinalEvent,
  unwrapWebhook,
  type WebhookEvent,
  WebhookVerificationError,
} from 'agentgate-sdk'

export interface Receiver extends AsyncDisposable {
  /** Give this to a work order as its `webhookUrl`. */
  url: string
}

/**
 * Takes webhooks on 127.0.0.1 and hands on each event once: the gate repeats a delivery until it is
 * acknowledged, so the same event may come again. A real receiver keeps the ids in its database.
 */
export async function startReceiver(
  secret: string,
  onEvent: (event: WebhookEvent) => void,
): Promise<Receiver> {
  const seen = new Set<string>()
  const take = (rawBody: Buffer, headers: IncomingMessage['headers']): number => {
    try {
      const event = unwrapWebhook(rawBody, headers, secret)
      if (!seen.has(event.id)) onEvent(event)
      seen.add(event.id)
      return 200
    } catch (error) {
      if (error instanceof WebhookVerificationError) return 401
      throw error
    }
  }
  const server = createServer((request, response) => {
    readBody(request).then(
      (rawBody) => response.writeHead(take(rawBody, request.headers)).end(),
      () => response.destroy(),
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // a TCP server's address is never a path
  return {
    url: `http://127.0.0.1:${port}/`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

export async function submit(
  client: AgentGate,
  order: { repository: string; taskPrompt: string; webhookUrl: string; requestId: string },
): Promise<{ runId: string; requestId: string }> {
  const { runId, metadata } = await client.workOrders.create({
    taskPrompt: order.taskPrompt,
    workspaceSource: { type: 'git', repository: order.repository },
    webhookUrl: order.webhookUrl,
    metadata: { requestId: order.requestId },
  })
  return { runId, requestId: metadata.requestId }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer) // no encoding is set, so chunks are buffers
  return Buffer.concat(chunks)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [repository = '', taskPrompt = ''] = process.argv.slice(2)
  let finish = () => {}
  const over = new Promise<void>((resolve) => {
    finish = resolve
  })
  await using receiver = await startReceiver(process.env.AGENTGATE_WEBHOOK_SECRET ?? '', (event) => {
    console.error(event.type)
    if (isFinalEvent(event)) finish()
  })
  const order = { repository, taskPrompt, webhookUrl: receiver.url, requestId: crypto.randomUUID() }
  console.log((await submit(new AgentGate(), order)).runId)
  await over
}
