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
  url: string
  app: App
  /** With a live key of the organisation. */
  client: AgentGate
  /** With a test key of the organisation. */
  testClient: AgentGate
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
  const app = await startApp(config, {
    log: pino({ level: config.logLevel }),
    pause: async () => undefined,
    random: Math.random,
    lifetime: 'with-parent',
    ...effects,
  })
  if (app.firstSecrets === null) throw new Error('a new database has no secrets yet')
  const { liveKey, testKey, webhookSecret } = app.firstSecrets
  const clientOf = (apiKey: string): AgentGate => new AgentGate({ apiKey, baseUrl: app.url })
  return {
    url: app.url,
    app,
    client: clientOf(liveKey.reveal()),
    testClient: clientOf(testKey.reveal()),
    liveKey: liveKey.reveal(),
    testKey: testKey.reveal(),
    webhookSecret: webhookSecret.reveal(),
    async [Symbol.asyncDispose]() {
      await app[Symbol.asyncDispose]()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}
