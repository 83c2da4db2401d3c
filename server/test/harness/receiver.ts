import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Received {
  path: string
  headers: IncomingHttpHeaders
  body: string
}

/** Who gets webhooks in tests. */
export interface Receiver {
  url: string
  /** Everything that came, in order. */
  received: readonly Received[]
  /** Answers with these statuses, one each, before it goes back to 200. */
  answerWith(...statuses: number[]): void
  /** The body of its answers from now on. */
  say(text: string): void
  /** Resolves with the first delivery, come or to come, that matches. */
  wait(matches: (received: Received) => boolean): Promise<Received>
  close(): Promise<void>
}

export async function startReceiver(): Promise<Receiver> {
  const received: Received[] = []
  const waiting = new Set<(one: Received) => void>()
  const statuses: number[] = []
  let said = ''
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const one = {
        path: request.url ?? '',
        headers: request.headers,
        body: Buffer.concat(chunks).toString(),
      }
      received.push(one)
      for (const look of waiting) look(one)
      response.writeHead(statuses.shift() ?? 200).end(said)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/hooks`,
    received,
    answerWith: (...next) => {
      statuses.push(...next)
    },
    say: (text) => {
      said = text
    },
    wait: (matches) =>
      new Promise((resolve) => {
        const present = received.find(matches)
        if (present !== undefined) {
          resolve(present)
          return
        }
        const look = (one: Received): void => {
          if (!matches(one)) return
          waiting.delete(look)
          resolve(one)
        }
        waiting.add(look)
      }),
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
}

/** A delivered event's type. */
export const typeOf = ({ body }: Received): string => {
  const event: { type: string } = JSON.parse(body)
  return event.type
}
