import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Run, RunEvent } from '../../../sdk/typescript/src/index.ts'
import { type Cases, call, finish, type Hosted, startCases, write } from '../harness/cases.ts'

/** Named as a secret, and random: of the project perhaps, and no business of ours to take out of its files. */
const LIKELY = 'q7Zk2VbX9mTf4LsW'

let cases: Cases
let hosted: Hosted
let run: Run
let events: RunEvent[]
const drafts: string[] = []

beforeAll(async () => {
  cases = await startCases(
    (request) => {
      const { token } = hosted
      // Nothing is carried out with a secret of the gateway, so the agent puts one together where nobody looks.
      const made = `echo ${token.split('').toReversed().join('')} | rev`
      const steps = [
        {
          ...call('run_command', {
            command: `${made}; printf x-access-token:%s $(${made}) | base64 -w0; ${made} > found.txt`,
          }),
          text: `I found ${token} here.`,
        },
        call('run_command', { command: `echo ${token} > told.txt` }),
        write(`${token}.txt`, `${token}\n`),
        call(`steal_${token}`),
        write('settings.env', `API_KEY=${LIKELY}\n`),
        call('read_file', { path: 'settings.env' }),
        finish(`The token is ${token}, the key sk-scripted-key.`),
      ]
      return steps[request.assistantTurns] ?? { text: token }
    },
    { OPENAI_API_KEY: 'sk-scripted-key' },
    { onDraft: (_runId, text) => drafts.push(text) },
  )
  hosted = await cases.host()
  const { receiver } = cases.here
  const gates = [{ name: 'echo', level: 'L1', check: { type: 'command', run: 'cat *.txt' } }] as const
  run = await cases.run({
    repository: hosted.repository,
    gatePlan: { gates: [...gates] },
    delivery: { mode: 'pull_request', draft: true },
    webhookUrl: receiver.url,
  })
  await receiver.wait(({ headers }) => headers['x-agentgate-event'] === 'run.completed')
  events = await cases.events(run.id)
})
afterAll(() => cases[Symbol.asyncDispose]())

/** What holds the token, as it is or in base64, or one of the other secrets. */
function expectNoSecret(where: string, what: unknown): void {
  const text = JSON.stringify(what)
  expect(text, where).not.toContain(hosted.token)
  expect(text, where).not.toContain(Buffer.from(hosted.token).toString('base64').slice(4, 24))
  expect(text, where).not.toContain('sk-scripted-key')
  expect(text, where).not.toContain(LIKELY)
}

test('a secret that an agent got hold of is in nothing that the gateway shows', async () => {
  const { receiver, gate } = cases.here
  expect(run).toMatchObject({ state: 'completed', output: 'The token is [secret], the key [secret].' })
  const shown = {
    run,
    drafts: drafts.join(''),
    order: await gate.client.workOrders.get(run.workOrderId ?? ''),
    events,
    artifacts: [...(await cases.artifacts(run.id)).values()],
    pulls: hosted.host.pulls('acme', 'project'),
    webhooks: receiver.received.map(({ body }) => body),
  }
  for (const [where, what] of Object.entries(shown)) expectNoSecret(where, what)
  expect(shown.drafts).toContain('I found [secret] here.')
  expect(JSON.stringify(shown.events)).toContain('I found [secret] here.')
  expect(shown.artifacts.map(({ name }) => name).toSorted()).toEqual([
    'changes.diff',
    'gate-1-L1-echo.txt',
    'transcript.jsonl',
  ])
})

test('nor in its journal, and a model reads its own words back without it', async () => {
  const { gate, model } = cases.here
  const journal = await gate.app.database.query('select record from step where run_id = $1', [run.id])
  expect(journal.length).toBeGreaterThan(10)
  expectNoSecret('journal', journal)
  expectNoSecret(
    'requests',
    model.requests.map(({ body }) => body),
  )
  expect(JSON.stringify(model.requests.at(-1)?.body)).toContain('API_KEY=[secret]')
})

test('no tool is given a secret of the gateway, and the agent is told so', () => {
  const failed = events.flatMap((event) => (event.type === 'tool.failed' ? [event.data] : []))
  expect(failed).toMatchObject([
    { name: 'run_command', code: 'not_allowed' },
    { name: 'write_file', code: 'not_allowed' },
    { name: 'steal__secret_', code: 'unknown_tool' },
  ])
})

test('what only looks like a secret is delivered as it was written, and the run says how many lines to look at', async () => {
  const branch = run.delivery?.branch ?? ''
  const { host } = hosted
  expect(await host.readFile('acme', 'project', branch, 'settings.env')).toBe(`API_KEY=${LIKELY}\n`)
  expect(await host.readFile('acme', 'project', branch, 'told.txt')).toBeUndefined()
  expect(run.delivery).toMatchObject({ likelySecrets: 2 })
  expect(host.pulls('acme', 'project')[0]?.body).toContain('2 added lines look as if they held secrets')
})

test('what was masked is counted, by how it was told', async () => {
  const metrics = await (await fetch(`${cases.here.gate.url}/metrics`)).text()
  const counted = (kind: string): number =>
    Number(new RegExp(`^agentgate_redactions_total\\{kind="${kind}"\\} (\\d+)$`, 'm').exec(metrics)?.[1])
  expect(counted('known')).toBeGreaterThan(5)
  expect(counted('likely')).toBeGreaterThan(2)
  expect(counted('form')).toBe(0)
})
