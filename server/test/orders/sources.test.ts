import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Cases, expectFailure, expectSettled, startCases } from '../harness/cases.ts'

let cases: Cases
beforeAll(async () => {
  cases = await startCases([])
})
afterAll(() => cases[Symbol.asyncDispose]())

test('a repository that does not exist ends the run as source_invalid', async () => {
  const { repository } = await cases.host()
  const run = await cases.run({ repository: repository.replace('project', 'nowhere') })
  expectFailure(run, {
    reason: 'source_invalid',
    stage: 'workspace',
    says: /no repository acme\/nowhere/,
    retryable: false,
  })
  expect(run.usage.steps).toBe(0)
  expect((await cases.events(run.id)).map(({ type }) => type)).toEqual([
    'run.created',
    'run.started',
    'run.failed',
  ])
})

test('a host that does not answer ends the run as source_unavailable, which may be tried again', async () => {
  const run = await cases.run({ repository: 'http://127.0.0.1:9/acme/project' })
  expectFailure(run, {
    reason: 'source_unavailable',
    stage: 'workspace',
    says: /127\.0\.0\.1 does not answer/,
    retryable: true,
  })
})

test('a host that is overloaded ends the run as source_unavailable', async () => {
  const { host, repository } = await cases.host()
  host.fail({ path: 'info/refs', status: 503 })
  const run = await cases.run({ repository })
  expectFailure(run, { reason: 'source_unavailable', stage: 'workspace', says: /trouble/, retryable: true })
})

test.each([
  'https://10.1.2.3/acme/project',
  'http://169.254.169.254/latest',
  'https://[::1]:8443/acme/project',
])('an address inside a network that nobody listed (%s) is never asked', async (repository) => {
  const run = await cases.run({ repository })
  expectFailure(run, { reason: 'source_invalid', stage: 'workspace', says: /private network.*operator/ })
})

test('a repository that needs a credential ends the run as source_auth_failed without one', async () => {
  const { repository } = await cases.host({ credential: 'none' })
  const run = await cases.run({ repository })
  expectFailure(run, {
    reason: 'source_auth_failed',
    stage: 'workspace',
    says: /store a credential.*\/v1\/git-credentials/,
    retryable: false,
  })
})

test('a wrong credential ends the run as source_auth_failed and is not shown', async () => {
  const { repository } = await cases.host({ credential: 'wrong' })
  const run = await cases.run({ repository })
  expectFailure(run, { reason: 'source_auth_failed', stage: 'workspace', says: /refused access/ })
  expect(JSON.stringify([run, await cases.events(run.id)])).not.toContain('not-the-token')
})

test('a branch that is not there ends the run as source_invalid, naming it', async () => {
  const { repository } = await cases.host()
  const run = await cases.run({ repository, branch: 'no-such-branch' })
  expectFailure(run, { reason: 'source_invalid', stage: 'workspace', says: /no-such-branch/ })
})

test('a commit that is not there ends the run as source_invalid, naming it', async () => {
  const { repository } = await cases.host()
  const run = await cases.run({ repository, commit: 'c0ffee'.padEnd(40, '0') })
  expectFailure(run, { reason: 'source_invalid', stage: 'workspace', says: /c0ffee/ })
})

test('a repository without a commit ends the run as source_invalid', async () => {
  const { host } = await cases.host()
  const { url, token } = await host.createRepository({ owner: 'acme', name: 'empty', private: false })
  await cases.here.gate.client.gitCredentials.create({
    host: new URL(url).host,
    kind: 'token',
    use: 'publish',
    secret: token,
  })
  const run = await cases.run({ repository: url })
  expectFailure(run, { reason: 'source_invalid', stage: 'workspace', says: /empty|no commit|branch/i })
})

test('an order that failed this way is told of by its webhook, and keeps no credit', async () => {
  const { receiver } = cases.here
  const run = await cases.run({ repository: 'http://127.0.0.1:9/acme/project', webhookUrl: receiver.url })
  const told = await receiver.wait(({ headers }) => headers['x-agentgate-event'] === 'run.failed')
  expect(JSON.parse(told.body).data).toMatchObject({
    runId: run.id,
    statusReason: 'source_unavailable',
    error: run.error,
    cost: run.cost,
  })
  expect(run.cost.credits).toBeLessThanOrEqual(1)
  await expectSettled(cases)
})
