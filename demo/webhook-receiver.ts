import { createServer, type IncomingMessage } from 'node:http'
import { unwrapWebhook, verifySignature, type WebhookEvent } from '../sdk/typescript/src/index.ts'

export interface ReceivedWebhook {
  event: WebhookEvent
  /** Whether both signatures are right: of Standard Webhooks, and of the raw body alone. */
  verified: boolean
}

export interface WebhookReceiver {
  url: string
  received: ReceivedWebhook[]
  /** The webhook that tells the end of a run, as soon as it has come; nothing when it does not come in time. */
  finalEvent(withinMs: number): Promise<ReceivedWebhook | undefined>
  close(): Promise<void>
}

/** Takes the webhooks of one organisation on 127.0.0.1 and checks them as a client should. */
export async function startWebhookReceiver(secret: () => string): Promise<WebhookReceiver> {
  const received: ReceivedWebhook[] = []
  let tellFinal: (webhook: ReceivedWebhook) => void = () => undefined
  const final = new Promise<ReceivedWebhook>((resolve) => {
    tellFinal = resolve
  })
  const server = createServer((request, response) => {
    readBody(request).then(
      (body) => {
        const webhook = check(body, request, secret())
        if (webhook) received.push(webhook)
        response.writeHead(webhook ? 204 : 400).end()
        if (webhook && /^run\.(?:completed|failed|canceled)$/.test(webhook.event.type)) tellFinal(webhook)
      },
      () => response.destroy(),
    )
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve)
  })
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : 0
  return {
    url: `http://127.0.0.1:${port}/agentgate`,
    received,
    async finalEvent(withinMs) {
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<undefined>((resolve) => {
        timer = setTimeout(() => resolve(undefined), withinMs)
      })
      return Promise.race([final, late]).finally(() => clearTimeout(timer))
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

function check(body: Buffer, { headers }: IncomingMessage, secret: string): ReceivedWebhook | undefined {
  const signature = headers['x-agentgate-signature']
  const verified = verifySignature(body, typeof signature === 'string' ? signature : undefined, secret)
  try {
    return { event: unwrapWebhook(body, headers, secret), verified }
  } catch {
    return undefined
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}
