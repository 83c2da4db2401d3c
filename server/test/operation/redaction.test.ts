import { EventEmitter } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { PassThrough, Readable } from 'node:stream'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runCommandLine } from '../../src/cli/program.ts'
import type { Host } from '../../src/cli/terminal.ts'
import { type Gate, startGate } from '../harness/gate.ts'
import { provideTestDatabase } from '../harness/postgres.ts'
import { type Receiver, startReceiver } from '../harness/receiver.ts'

const OURS = 'sk-provider-of-this-gate'
const SAID = `${OURS} AKIAIOSFODNN7EXAMPLE DB_PASSWORD=q7Zk2VbX9mTf4LsW`

let gate: Gate
let databaseUrl: string
let folder: string
let receiver: Receiver

beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/agentgate-redaction-')
  databaseUrl = await provideTestDatabase()
  receiver = await startReceiver()
  gate = await startGate({
    env: {
      DATABASE_URL: databaseUrl,
      OPENAI_API_KEY: OURS,
      AGENTGATE_ALLOWED_PRIVATE_HOSTS: new URL(receiver.url).host,
    },
  })
})
afterAll(async () => {
  await gate?.[Symbol.asyncDispose]()
  await receiver?.close()
  await rm(folder, { recursive: true, force: true })
})

async function command(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const host = Object.assign(new EventEmitter(), {
    stdout: new PassThrough(),
    stderr: new PassThrough(),
    stdin: Readable.from([]),
    ppid: 1,
    exit: () => undefined,
  })
  const environment = {
    DATABASE_URL: databaseUrl,
    AGENTGATE_DATA_DIR: folder,
    AGENTGATE_MASTER_KEY: MASTER_KEY,
  }
  // The parts of a process that commands use are there, with the types that they use them by.
  const code = await runCommandLine(argv, host as unknown as Host, environment)
  return { code, out: String(host.stdout.read() ?? ''), err: String(host.stderr.read() ?? '') }
}

const MASTER_KEY = Buffer.alloc(32, 7).toString('base64')

async function said(): Promise<unknown> {
  const run = await gate.client.runs.create({ agent: 'scripted', input: { steps: [{ text: SAID }] } })
  return (await gate.client.runs.wait(run.id)).output
}

test('an organisation has everything masked that is likely to be a secret, unless it says otherwise', async () => {
  expect(await command('organization', 'redaction')).toEqual({ code: 0, out: 'on\n', err: '' })
  expect(await said()).toBe('[secret] [secret] DB_PASSWORD=[secret]')

  expect(await command('organization', 'redaction', 'known_only')).toMatchObject({
    code: 0,
    out: 'known_only\n',
  })
  await gate.restart()
  expect(await said()).toBe('[secret] AKIAIOSFODNN7EXAMPLE DB_PASSWORD=q7Zk2VbX9mTf4LsW')

  const { out } = await command('organization', 'redaction', 'on', '--json')
  expect(JSON.parse(out)).toEqual({ organization: expect.stringMatching(/^org_/), redaction: 'on' })
  await gate.restart()
  expect(await said()).toBe('[secret] [secret] DB_PASSWORD=[secret]')
})

test('a setting or an organisation that there is not is refused, and nothing is changed', async () => {
  expect(await command('organization', 'redaction', 'off')).toMatchObject({ code: 2 })
  const unknown = await command('organization', 'redaction', 'known_only', '--organization', 'org_unknown')
  expect(unknown).toMatchObject({ code: 1, err: expect.stringContaining('org_unknown does not exist') })
  expect((await command('organization', 'redaction')).out).toBe('on\n')
})

test('what a receiver of webhooks answers is kept without secrets, the one that it shares with us among them', async () => {
  const { host } = new URL('https://git.example.org')
  const stored = 'git-token-of-acme'
  await gate.client.gitCredentials.create({ host, kind: 'token', use: 'publish', secret: stored })
  const bare = gate.webhookSecret.replace('whsec_', '')
  receiver.say(`${SAID} ${stored} expected ${gate.webhookSecret} not ${bare} but found nothing`)
  const { id } = await gate.client.runs.create({ agent: 'scripted', input: {}, webhookUrl: receiver.url })
  await gate.client.runs.wait(id)

  const answers = async (): Promise<string[]> => {
    const rows = await gate.app.database.query<{ answer: string }>(
      'select answer from delivery_attempt join delivery on id = delivery_id where run_id = $1',
      [id],
    )
    return rows.map(({ answer }) => answer)
  }
  await expect.poll(answers, { timeout: 20_000 }).toHaveLength(3)
  const masked =
    '[secret] [secret] DB_PASSWORD=[secret] [secret] expected [secret] not [secret] but found nothing'
  expect(new Set(await answers())).toEqual(new Set([masked]))
  expect(await (await fetch(`${gate.url}/metrics`)).text()).toMatch(
    /agentgate_redactions_total\{kind="known"\} \d+/,
  )
})

test('a word given in place of a key, as local model servers are, spoils no text', async () => {
  await using local = await startGate({
    env: { OPENAI_API_KEY: 'not-needed' },
  })
  const text = 'A key is not-needed here.'
  const run = await local.client.runs.create({ agent: 'scripted', input: { steps: [{ text }] } })
  expect((await local.client.runs.wait(run.id)).output).toBe(text)
})
