import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pino } from 'pino'
import { AgentGate } from '../../../sdk/typescript/src/index.ts'
import { type App, type Effects, startApp } from '../../src/app.ts'
import { readConfig } from '../../src/config.ts'
import { provideTestDatabase } from './postgres.ts'

export interface GateOptions {
  /** Environment variables on top of those of every test gate. */
  env?: Record<string, string>
  effects?: Partial<Effects>
}

/** A real server on a real PostgreSQL, spoken to through the TypeScript SDK. */
export interface Gate extends AsyncDisposable {
  readonly url: string
  readonly app: App
  /** With a live key of the organisation. */
  readonly client: AgentGate
  /** With a test key of the organisation. */
  readonly testClient: AgentGate
  /** Stops the server, which hands its runs back, and starts another one on the same database and folder. */
  restart(): Promise<void>
  liveKey: string
  testKey: string
  webhookSecret: string
}

/** Base64 of 32 bytes; the master key of test gates. */
const MASTER_KEY = Buffer.alloc(32, 7).toString('base64')

const ENVIRONMENT = {
  PORT: '0',
  LOG_LEVEL: process.env['AGENTGATE_TEST_LOG'] || 'silent',
  AGENTGATE_MASTER_KEY: MASTER_KEY,
  AGENTGATE_RATE_READS: '100000',
  AGENTGATE_RATE_WRITES: '100000',
  AGENTGATE_RATE_SUBMISSIONS: '100000',
  AGENTGATE_JAIL_SLOTS: '4',
}

/** Starts a gate on a database of its own. Everything it made is gone when it is disposed. */
export async function startGate({ env = {}, effects = {} }: GateOptions = {}): Promise<Gate> {
  const dataDir = await mkdtemp(join('/var/tmp', 'agentgate-gate-'))
  await chmod(dataDir, 0o711)
  const databaseUrl = await provideTestDatabase()
  const settings = { ...ENVIRONMENT, DATABASE_URL: databaseUrl, AGENTGATE_DATA_DIR: dataDir, ...env }
  const config = readConfig(settings)
  const start = (): Promise<App> =>
    startApp(config, {
      log: pino({ level: config.logLevel }),
      pause: async () => undefined,
      random: Math.random,
      lifetime: 'with-parent',
      ...effects,
    })
  let app = await start()
  if (app.firstSecrets === null) throw new Error('a new database has no secrets yet')
  const { liveKey, testKey, webhookSecret } = app.firstSecrets
  const clientOf = (apiKey: string): AgentGate => new AgentGate({ apiKey, baseUrl: app.url })
  let client = clientOf(liveKey.reveal())
  let testClient = clientOf(testKey.reveal())
  return {
    get url() {
      return app.url
    },
    get app() {
      return app
    },
    get client() {
      return client
    },
    get testClient() {
      return testClient
    },
    liveKey: liveKey.reveal(),
    testKey: testKey.reveal(),
    webhookSecret: webhookSecret.reveal(),
    async restart() {
      await app[Symbol.asyncDispose]()
      app = await start()
      client = clientOf(liveKey.reveal())
      testClient = clientOf(testKey.reveal())
    },
    async [Symbol.asyncDispose]() {
      await app[Symbol.asyncDispose]()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}
