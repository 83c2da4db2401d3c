import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, expect, test } from 'vitest'
import { AgentGate } from '../../../sdk/typescript/src/index.ts'
import { type App, startApp } from '../../src/app.ts'
import { readConfig } from '../../src/config.ts'
import { provideTestDatabase } from '../harness/postgres.ts'

const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

interface House {
  start(env?: Record<string, string>): Promise<App>
  /** With a test key, at the door of this process. */
  client(app: App): AgentGate
}

/** Several processes, as far as the database can tell, on one database. */
async function openHouse(): Promise<House> {
  const url = await provideTestDatabase()
  let testKey = ''
  return {
    async start(env = {}) {
      const dataDir = await mkdtemp(join('/var/tmp', 'agentgate-process-'))
      cleanups.push(() => rm(dataDir, { recursive: true, force: true }))
      const config = readConfig({
        PORT: '0',
        DATABASE_URL: url,
        AGENTGATE_DATA_DIR: dataDir,
        AGENTGATE_MASTER_KEY: Buffer.alloc(32, 7).toString('base64'),
        AGENTGATE_RATE_SUBMISSIONS: '100000',
        AGENTGATE_JAIL_SLOTS: '1',
        ...env,
      })
      const app = await startApp(config, {
        log: pino({ level: 'silent' }),
        pause: async () => undefined,
        random: Math.random,
        lifetime: 'with-parent',
      })
      cleanups.push(async () => app[Symbol.asyncDispose]())
      testKey = app.firstSecrets?.testKey.reveal() ?? testKey
      return app
    },
    client: (app) => new AgentGate({ apiKey: testKey, baseUrl: app.url }),
  }
}

const sleeping = (delayMs: number) => ({ input: { steps: [{ text: 'I wait.', delayMs }] } })

/** The shortest of three, so that a busy machine does not decide. */
async function shortestMs(measure: () => Promise<number>): Promise<number> {
  const all = [await measure(), await measure(), await measure()]
  return Math.min(...all)
}

test('a run created where nobody works is taken and finished by a worker at once', async () => {
  const house = await openHouse()
  const api = await house.start({ AGENTGATE_ROLE: 'api' })
  const worker = await house.start({ AGENTGATE_ROLE: 'worker', PORT: '' })
  expect(worker.url).toBe('')
  const client = house.client(api)
  const ms = await shortestMs(async () => {
    const startedAt = performance.now()
    const run = await client.runs.create({ agent: 'scripted', input: 'hello' })
    expect(await client.runs.wait(run.id)).toMatchObject({ state: 'completed' })
    return performance.now() - startedAt
  })
  expect(ms).toBeLessThan(700)
})

test('whoever waits hears within 200 ms of a run that another process finished', async () => {
  const house = await openHouse()
  const [here, there] = [await house.start({ AGENTGATE_ROLE: 'api' }), await house.start()]
  const ended = new Map<string, number>()
  const [atHere, atThere] = [house.client(here), house.client(there)]
  const ms = await shortestMs(async () => {
    const run = await atThere.runs.create({ agent: 'scripted', ...sleeping(400) })
    const waiting = atHere.runs.wait(run.id).then(() => performance.now())
    void atThere.runs.wait(run.id).then(() => ended.set(run.id, performance.now()))
    const heardAt = await waiting
    return heardAt - (ended.get(run.id) ?? heardAt)
  })
  expect(ms).toBeLessThan(200)
})

test('a cancel at one process stops the work of another promptly', async () => {
  const house = await openHouse()
  const api = await house.start({ AGENTGATE_ROLE: 'api' })
  await house.start({ AGENTGATE_ROLE: 'worker', PORT: '' })
  const client = house.client(api)
  const ms = await shortestMs(async () => {
    const run = await client.runs.create({ agent: 'scripted', ...sleeping(60_000) })
    while ((await client.runs.get(run.id)).state !== 'running');
    const startedAt = performance.now()
    await client.runs.cancel(run.id)
    expect(await client.runs.wait(run.id)).toMatchObject({ state: 'canceled' })
    return performance.now() - startedAt
  })
  expect(ms).toBeLessThan(700)
})

test('a worker shows health and figures, and none of the API', async () => {
  const house = await openHouse()
  const worker = await house.start({ AGENTGATE_ROLE: 'worker' })
  const statusOf = async (path: string) => (await fetch(`${worker.url}${path}`)).status
  for (const path of ['/healthz', '/readyz', '/metrics']) expect(await statusOf(path)).toBe(200)
  for (const path of ['/v1/runs', '/docs', '/openapi.json']) expect(await statusOf(path)).toBe(404)
})

test('a worker that stops hands its run to the other one, which goes on at once', async () => {
  const house = await openHouse()
  const api = await house.start({ AGENTGATE_ROLE: 'api' })
  const client = house.client(api)
  const first = await house.start({ AGENTGATE_ROLE: 'worker', PORT: '' })
  const run = await client.runs.create({ agent: 'scripted', ...sleeping(1_500) })
  while ((await client.runs.get(run.id)).state !== 'running');
  await house.start({ AGENTGATE_ROLE: 'worker', PORT: '' })
  await first[Symbol.asyncDispose]()
  expect(await client.runs.wait(run.id)).toMatchObject({ state: 'completed', attempt: 2 })
})
