import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { AgentGate } from '../../../sdk/typescript/src/index.ts'
import { type App, startApp } from '../../src/app.ts'
import { openDataDatabase } from '../../src/cli/data-database.ts'
import { readConfig } from '../../src/config.ts'
import type { Effects } from '../../src/effects.ts'
import { joinEmbeddedPostgres } from '../../src/storage/embedded-guest.ts'
import { exportDatabase } from '../../src/storage/export.ts'
import { importDatabase } from '../../src/storage/import.ts'
import { MIGRATIONS, migrate } from '../../src/storage/migrate.ts'

const folders: string[] = []
let dataDir: string
let app: App

async function newFolder(): Promise<string> {
  const folder = await mkdtemp(join('/var/tmp', 'agentgate-guest-'))
  await chmod(folder, 0o711)
  folders.push(folder)
  return join(folder, 'data')
}

/** The socket folder outlives its server. */
const keepSocket = async (dataDir: string): Promise<void> => {
  folders.push((await joinEmbeddedPostgres(join(dataDir, 'postgresql'))).host)
}

const settings = (env: Record<string, string>) =>
  readConfig({ PORT: '0', AGENTGATE_DATA_DIR: dataDir, AGENTGATE_JAIL_SLOTS: '1', ...env })

const start = (env: Record<string, string> = {}, effects: Partial<Effects> = {}): Promise<App> =>
  startApp(settings(env), {
    log: pino({ level: 'silent' }),
    pause: async () => undefined,
    random: Math.random,
    lifetime: 'with-parent',
    ...effects,
  })

/** A gateway that has been at work on a folder of its own and is no more; and the settings for the next one there. */
async function stoppedGateway(): Promise<{ own: Record<string, string>; first: App }> {
  const folder = await newFolder()
  const own = { AGENTGATE_DATA_DIR: folder }
  const first = await start(own)
  await keepSocket(folder)
  await first[Symbol.asyncDispose]()
  return { own, first }
}

beforeAll(async () => {
  dataDir = await newFolder()
  app = await start({ AGENTGATE_ROLE: 'api' })
  await keepSocket(dataDir)
})
afterAll(async () => {
  await app[Symbol.asyncDispose]()
  for (const folder of folders) await rm(folder, { recursive: true, force: true })
})

test('a worker joins the running server of a data folder as a guest, and leaves it running', async () => {
  const client = new AgentGate({ apiKey: app.firstSecrets?.testKey.reveal() ?? '', baseUrl: app.url })
  const run = await client.runs.create({ agent: 'scripted', input: 'x' })
  {
    await using worker = await start({ AGENTGATE_ROLE: 'worker', PORT: '' })
    expect(worker.firstSecrets).toBeNull()
    expect(await client.runs.wait(run.id)).toMatchObject({ state: 'completed' })
  }
  expect((await client.runs.get(run.id)).state).toBe('completed')
})

test('a worker on a folder where nothing runs is refused, with the way out', async () => {
  const nowhere = await newFolder()
  await expect(joinEmbeddedPostgres(join(nowhere, 'postgresql'))).rejects.toMatchObject({
    code: 'SERVICE_UNAVAILABLE',
    hint: expect.stringContaining('agentgate start'),
  })
})

test('a worker waits for the gateway of its folder, which may be starting', async () => {
  const { own, first } = await stoppedGateway()
  const joining = start({ ...own, AGENTGATE_ROLE: 'worker', PORT: '' })
  joining.catch(() => undefined)
  await using gateway = await start({ ...own, AGENTGATE_ROLE: 'api' })
  await using worker = await joining
  const client = new AgentGate({ apiKey: first.firstSecrets?.testKey.reveal() ?? '', baseUrl: gateway.url })
  const run = await client.runs.create({ agent: 'scripted', input: 'x' })
  expect(await client.runs.wait(run.id)).toMatchObject({ state: 'completed' })
  expect(worker.firstSecrets).toBeNull()
})

test('a worker that is told to stop while it waits for its gateway waits no longer', async () => {
  const { own } = await stoppedGateway()
  let asked = 0
  const joining = start({ ...own, AGENTGATE_ROLE: 'worker', PORT: '' }, { isStopping: () => ++asked > 1 })
  await expect(joining).rejects.toMatchObject({ code: 'SERVICE_UNAVAILABLE' })
  expect(asked).toBe(2)
})

test('a second gateway that is no worker is still refused', async () => {
  await expect(start()).rejects.toMatchObject({ code: 'CONFLICT' })
})

test('an export of a running embedded gateway is read into a new data folder', async () => {
  const file = join(dataDir, '..', 'all.gz')
  {
    await using opened = await openDataDatabase(settings({}), { mayJoin: true })
    await exportDatabase(opened.database, file, new Date())
  }
  const other = settings({ AGENTGATE_DATA_DIR: await newFolder() })
  {
    await using opened = await openDataDatabase(other, { mayJoin: false })
    await keepSocket(other.dataDir)
    await migrate(opened.database, MIGRATIONS)
    expect((await importDatabase(opened.database, file, new Date())).epoch).toBe(2)
  }
  await using opened = await openDataDatabase(other, { mayJoin: true })
  expect(await opened.database.query('select count(*)::int as runs from run')).toEqual([{ runs: 1 }])
})

test('nothing is read into a database that a gateway works on', async () => {
  const file = join(dataDir, '..', 'all.gz')
  await using opened = await openDataDatabase(settings({}), { mayJoin: true })
  await expect(importDatabase(opened.database, file, new Date())).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining('running'),
  })
})

test('the folder of a stopped gateway refuses guests', async () => {
  const stopped = await newFolder()
  {
    await using opened = await openDataDatabase(settings({ AGENTGATE_DATA_DIR: stopped }), { mayJoin: false })
    await opened.database.query('select 1')
    await keepSocket(stopped)
  }
  await expect(joinEmbeddedPostgres(join(stopped, 'postgresql'))).rejects.toMatchObject({
    code: 'SERVICE_UNAVAILABLE',
  })
})
