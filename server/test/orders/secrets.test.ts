import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Cases, call, finish, type Hosted, startCases, write } from '../harness/cases.ts'

let cases: Cases
let hosted: Hosted
const drafts: string[] = []

beforeAll(async () => {
  cases = await startCases(
    (request) => {
      const { token } = hosted
      const basic = Buffer.from(`x-access-token:${token}`).toString('base64')
      const steps = [
        {
          ...call('run_command', { command: `echo ${token}; echo ${basic}` }),
          text: `I found ${token} here.`,
        },
        write(`${token}.txt`, `${token}\n`),
        call(`steal_${token}`),
        finish(`The token is ${token}, the key sk-scripted-key.`),
      ]
      return steps[request.assistantTurns] ?? { text: token }
    },
    { OPENAI_API_KEY: 'sk-scripted-key' },
    { onDraft: (_runId, text) => drafts.push(text) },
  )
  hosted = await cases.host()
})
afterAll(() => cases[Symbol.asyncDispose]())

test('a secret that an agent got hold of is in nothing that the gateway shows', async () => {
  const { receiver, gate } = cases.here
  const gates = [{ name: 'echo', level: 'L1', check: { type: 'command', run: 'cat *.txt' } }] as const
  const run = await cases.run({
    repository: hosted.repository,
    gatePlan: { gates: [...gates] },
    delivery: { mode: 'pull_request', draft: true },
    webhookUrl: receiver.url,
  })
  expect(run).toMatchObject({ state: 'completed', output: 'The token is [secret], the key [secret].' })
  await receiver.wait(({ headers }) => headers['x-agentgate-event'] === 'run.completed')
  const shown = {
    run,
    drafts: drafts.join(''),
    order: await gate.client.workOrders.get(run.workOrderId ?? ''),
    events: await cases.events(run.id),
    artifacts: [...(await cases.artifacts(run.id)).values()],
    pulls: hosted.host.pulls('acme', 'project'),
    webhooks: receiver.received.map(({ body }) => body),
  }
  for (const [where, what] of Object.entries(shown)) {
    const text = JSON.stringify(what)
    expect(text, where).not.toContain(hosted.token)
    expect(text, where).not.toContain(Buffer.from(hosted.token).toString('base64').slice(4, 24))
    expect(text, where).not.toContain('sk-scripted-key')
  }
  expect(shown.drafts).toContain('I found [secret] here.')
  expect(JSON.stringify(shown.events)).toContain('I found [secret] here.')
  expect(shown.artifacts.map(({ name }) => name).toSorted()).toEqual([
    'changes.diff',
    'gate-1-L1-echo.txt',
    'transcript.jsonl',
  ])
})
