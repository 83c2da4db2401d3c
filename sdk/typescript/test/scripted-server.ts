import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** One request as it arrived. */
export interface SeenRequest {
  method: string
  path: string
  headers: IncomingMessage['headers']
  body: string
}

/** What the server does with one request. `hang` never answers; `cut` drops the connection. */
export type Script =
  | { status: number; headers?: Record<string, string>; body?: unknown }
  | { text: string; status?: number; headers?: Record<string, string> }
  | { cut: 'before' | 'within' }
  | { hang: true }

export interface ScriptedServer extends AsyncDisposable {
  url: string
  seen: SeenRequest[]
}

/**
 * A server that gives these answers in order, one per request, and fails loudly when it is asked more often.
 * A function makes its answer from the request.
 */
export async function startScriptedServer(
  ...scripts: (Script | ((request: SeenRequest) => Script))[]
): Promise<ScriptedServer> {
  const seen: SeenRequest[] = []
  const server = createServer((request, response) => {
    void readBody(request).then((body) => {
      const arrived = {
        method: request.method ?? '',
        path: request.url ?? '',
        headers: request.headers,
        body,
      }
      const script = scripts[seen.length]
      seen.push(arrived)
      perform(typeof script === 'function' ? script(arrived) : script, response)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // a TCP server's address is never a path
  return {
    url: `http://127.0.0.1:${port}`,
    seen,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

function perform(script: Script | undefined, response: ServerResponse): void {
  if (!script) {
    response.writeHead(418).end('the script is over')
  } else if ('text' in script) {
    response.writeHead(script.status ?? 200, script.headers).end(script.text)
  } else if ('status' in script) {
    response.writeHead(script.status, { 'content-type': 'application/json', ...script.headers })
    response.end(script.body === undefined ? undefined : JSON.stringify(script.body))
  } else if ('cut' in script) {
    if (script.cut === 'within') {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' })
      response.write('{"id":"run_', () => response.destroy())
    } else response.destroy()
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer) // no encoding is set, so chunks are buffers
  return Buffer.concat(chunks).toString()
}

/** The gate's error envelope. */
export const refusal = (status: number, code: string, more: object = {}): Script => ({
  status,
  body: {
    error: { code, message: `It is ${code}.`, details: {}, requestId: 'req_1', retryable: false, ...more },
  },
})
