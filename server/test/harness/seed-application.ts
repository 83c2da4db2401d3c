import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/**
 * The parts of a reader's application that the printed code leans on: an app in the manner of Express, a job
 * queue, a table of tasks. Each is the least that the printed code calls, and remembers what it was told.
 */

export interface AppRequest {
  headers: IncomingHttpHeaders
  /** The bytes as they came; what a verifier needs. */
  rawBody: Buffer
  body: unknown
  /** Put there by middleware, such as the tenant. */
  [name: string]: unknown
}

export interface AppResponse {
  json(body: unknown): void
  sendStatus(status: number): void
}

type Handler = (request: AppRequest, response: AppResponse, next: () => void) => unknown

/** `app.post(path, ...handlers)` on a real port. A handler that rejects is kept in `failures`. */
export interface SeedApp extends AsyncDisposable {
  app: { post(path: string, ...handlers: Handler[]): void }
  url: string
  failures: unknown[]
  /** Resolves when no handler is at work any more. */
  idle(): Promise<void>
}

export async function startSeedApp(): Promise<SeedApp> {
  const routes = new Map<string, Handler[]>()
  const failures: unknown[] = []
  const working = new Set<Promise<void>>()
  const server = createServer((incoming, outgoing) => {
    const work = serve(routes.get(`${incoming.method} ${incoming.url}`), incoming, outgoing)
      .catch((error: unknown) => void failures.push(error))
      .finally(() => working.delete(work))
    working.add(work)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // a TCP server's address is never a path
  return {
    app: { post: (path, ...handlers) => void routes.set(`POST ${path}`, handlers) },
    url: `http://127.0.0.1:${port}`,
    failures,
    async idle() {
      while (working.size > 0) await Promise.all(working)
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

async function serve(
  handlers: readonly Handler[] | undefined,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of incoming) chunks.push(chunk as Buffer) // no encoding is set, so chunks are buffers
  const rawBody = Buffer.concat(chunks)
  const request: AppRequest = { headers: incoming.headers, rawBody, body: JSON.parse(rawBody.toString()) }
  const response: AppResponse = {
    json: (body) => void outgoing.setHeader('content-type', 'application/json').end(JSON.stringify(body)),
    sendStatus: (status) => void outgoing.writeHead(status).end(),
  }
  if (!handlers) return response.sendStatus(404)
  for (const handler of handlers) {
    let passed = false
    await handler(request, response, () => {
      passed = true
    })
    if (!passed) return
  }
}

/** `queue.add(name, data)` and `queue.process(name, worker)`; a job is worked on at once, in the order of adding. */
export class SeedQueue {
  readonly added: { name: string; data: unknown }[] = []
  readonly #workers = new Map<string, (job: { data: unknown }) => Promise<unknown>>()
  #last: Promise<unknown> = Promise.resolve()

  process = (name: string, worker: (job: { data: unknown }) => Promise<unknown>): void => {
    this.#workers.set(name, worker)
  }

  add = async (name: string, data: unknown): Promise<void> => {
    // A real queue keeps its jobs as text.
    const job = { data: JSON.parse(JSON.stringify(data)) as unknown }
    this.added.push({ name, data: job.data })
    this.#last = this.#last.then(() => this.#workers.get(name)?.(job))
  }

  /** Resolves when every job added so far is done; rejects with the first worker's error. */
  async idle(): Promise<void> {
    await this.#last
  }
}

export interface SeedTask {
  id?: string
  runId?: string
  userId?: string
  [column: string]: unknown
}

/** `db.tasks` with `create`, `update` (which creates what it does not find) and `findByRunId`. */
export class SeedTasks {
  readonly rows: SeedTask[] = []

  create = async (task: SeedTask): Promise<void> => {
    this.rows.push({ ...task })
  }

  update = async (change: { where: SeedTask; data: SeedTask }): Promise<void> => {
    const found = this.rows.find((row) =>
      Object.entries(change.where).every(([key, value]) => row[key] === value),
    )
    if (found) Object.assign(found, change.data)
    else this.rows.push({ ...change.where, ...change.data })
  }

  findByRunId = async (runId: string): Promise<SeedTask | undefined> =>
    this.rows.find((row) => row.runId === runId)
}
