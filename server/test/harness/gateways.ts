import { mkdtemp, rm } from 'node:fs/promises'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { GatewayProcess } from './gateway-process.ts'
import { provideTestDatabase } from './postgres.ts'

/** Whatever is read of an answer: a run, a page, an error or a balance. */
export interface Body {
  id: string
  state: string
  statusReason: string
  input: unknown
  output: unknown
  constraints: { maxCredits: number }
  usage: { steps: number }
  retryOf: string | null
  cancelRequestedAt: string | null
  data: { id: string; seq: number; type: string; state: string; createdAt: string }[]
  error: { code: string } | null
  reservedCreditsCents: number
  totalCreditsCents: number
}

export interface Answer {
  status: number
  body: Body
}

export interface Asking {
  /** With one it is a POST, else a GET. */
  body?: object
  headers?: object
}

/** Gateways on one database, each a process with a folder of its own, and a client that asks until it is answered. */
export class Gateways implements AsyncDisposable {
  readonly all: readonly GatewayProcess[]
  readonly database: Database
  readonly #folders: readonly string[]

  private constructor(all: readonly GatewayProcess[], database: Database, folders: readonly string[]) {
    this.all = all
    this.database = database
    this.#folders = folders
  }

  static async open(count: number, settings: Record<string, string>): Promise<Gateways> {
    const url = await provideTestDatabase()
    const database = await openDatabase(url, { maxReaders: 4, statementTimeoutMs: 0 })
    const folders = await Promise.all(
      Array.from({ length: count }, () => mkdtemp('/var/tmp/agentgate-gateway-')),
    )
    const all = folders.map(
      (folder) =>
        new GatewayProcess({
          PATH: process.env['PATH'] ?? '',
          HOME: process.env['HOME'] ?? '/',
          LOG_LEVEL: process.env['AGENTGATE_TEST_LOG'] || 'fatal',
          PORT: '0',
          DATABASE_URL: url,
          AGENTGATE_DATA_DIR: folder,
          AGENTGATE_MASTER_KEY: Buffer.alloc(32, 5).toString('base64'),
          AGENTGATE_JAIL: 'none',
          AGENTGATE_JAIL_SLOTS: '1',
          AGENTGATE_LEASE_SECONDS: '2',
          AGENTGATE_RATE_READS: '10000000',
          AGENTGATE_RATE_WRITES: '10000000',
          AGENTGATE_RATE_SUBMISSIONS: '10000000',
          AGENTGATE_RATE_CONTROL: '10000000',
          ...settings,
        }),
    )
    const gateways = new Gateways(all, database, folders)
    try {
      for (const gateway of all) await gateway.start()
      return gateways
    } catch (error) {
      await gateways[Symbol.asyncDispose]()
      throw error
    }
  }

  /** The first answer there is: a gateway that is killed gives none. */
  async ask(gateway: GatewayProcess, path: string, { body, headers }: Asking = {}): Promise<Answer> {
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await fetch(`${gateway.url}${path}`, {
          method: body === undefined ? 'GET' : 'POST',
          headers: {
            authorization: `Bearer ${this.all[0]?.liveKey}`,
            'content-type': 'application/json',
            ...headers,
          },
          ...(body && { body: JSON.stringify(body) }),
        })
        const text = await answer.text()
        if (answer.status !== 503) return { status: answer.status, body: JSON.parse(text) }
      } catch (error) {
        if (attempt === 2_400) throw error
      }
      // A process that is down has no event to wait for.
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.all.map((gateway) => gateway.end('stop')))
    await this.database.close()
    await Promise.all(this.#folders.map((folder) => rm(folder, { recursive: true, force: true })))
  }
}
