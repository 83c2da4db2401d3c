import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type GitHost, startGitHost } from '../../../demo/git-host.ts'
import type { Run } from '../../../sdk/typescript/src/index.ts'
import {
  ANSWERED,
  type Cases,
  expectFailure,
  expectSettled,
  FILES,
  finish,
  type Hosted,
  startCases,
  stories,
  write,
} from '../harness/cases.ts'

const STEPS = [write('answer.txt', 'right\n'), finish('Wrote the answer.')]

const PULLS = '/api/v3/repos/acme/project/pulls'

let cases: Cases
beforeAll(async () => {
  cases = await startCases(stories({ answer: STEPS }))
})
afterAll(() => cases[Symbol.asyncDispose]())

const deliver = ({ repository }: Hosted, delivery?: Parameters<Cases['run']>[0]['delivery']): Promise<Run> =>
  cases.run({ repository, story: 'answer', gatePlan: ANSWERED, ...(delivery && { delivery }) })

/** Runs an order with a change on its host after the clone and before the push. */
async function deliverAfter(hosted: Hosted, change: (host: GitHost) => Promise<unknown>): Promise<Run> {
  const { model } = cases.here
  const asked = model.requests.length
  const done = deliver(hosted)
  await expect.poll(() => model.requests.length, { interval: 5, timeout: 60_000 }).toBeGreaterThan(asked)
  await change(hosted.host)
  return done
}

const requestsTo = ({ host }: Hosted, method: string, path: string): number =>
  host.requests.filter((request) => request.method === method && request.path === path).length

describe.concurrent('a pull request', () => {
  test('has title, base, labels, reviewers and draft as asked, and a body with the gates', async () => {
    const hosted = await cases.host()
    await hosted.host.commit('acme/project', 'release', { 'CHANGES.md': '# changes\n' })
    const run = await cases.run({
      repository: hosted.repository,
      branch: 'release',
      story: 'answer',
      gatePlan: ANSWERED,
      delivery: {
        mode: 'pull_request',
        branch: 'answers/one',
        title: 'An answer',
        draft: true,
        labels: ['bot'],
        reviewers: ['alex'],
      },
    })
    const [pull] = hosted.host.pulls('acme', 'project')
    expect(pull).toMatchObject({
      title: 'An answer',
      head: 'answers/one',
      base: 'release',
      draft: true,
      labels: ['bot'],
      reviewers: ['alex'],
      url: run.prUrl,
    })
    expect(pull?.body).toContain('answered')
    expect(pull?.body).toContain(run.id)
    expect(run.delivery).toMatchObject({ mode: 'pull_request', branch: 'answers/one', prUrl: run.prUrl })
  })

  test('is made once although the forge answers 502 first', async () => {
    const hosted = await cases.host()
    hosted.host.fail({ method: 'POST', path: PULLS, status: 502, times: 1 })
    const run = await deliver(hosted)
    expect(run).toMatchObject({ state: 'completed', statusReason: 'completed' })
    expect(hosted.host.pulls('acme', 'project')).toHaveLength(1)
  })

  test('that was made although its answer was lost is taken over', async () => {
    const hosted = await cases.host()
    hosted.host.fail({ method: 'POST', path: PULLS, status: 502, times: 1, afterEffect: true })
    const run = await deliver(hosted)
    const pulls = hosted.host.pulls('acme', 'project')
    expect(pulls).toHaveLength(1)
    expect(run.prUrl).toBe(pulls[0]?.url)
    expect(requestsTo(hosted, 'POST', PULLS)).toBe(2)
  })

  test('that the forge refuses leaves the pushed branch, and the run says so', async () => {
    const hosted = await cases.host()
    hosted.host.fail({ method: 'POST', path: PULLS, status: 403 })
    const run = await deliver(hosted)
    expectFailure(run, { reason: 'push_rejected', stage: 'delivery', says: /may not open pull requests/ })
    expect(run).toMatchObject({ verification: 'passed', prUrl: null })
    expect(run.delivery).toMatchObject({ mode: 'branch', branch: `agentgate/${run.id}` })
    expect(await hosted.host.head('acme', 'project', `agentgate/${run.id}`)).toBe(run.delivery?.commit)
  })
})

describe.concurrent('where the host has no forge', () => {
  test('the default falls back to a branch, and says why', async () => {
    const hosted = await cases.host({ credential: 'no_forge' })
    const run = await deliver(hosted)
    expect(run).toMatchObject({ state: 'completed', prUrl: null })
    expect(run.delivery).toMatchObject({ mode: 'branch', reason: 'no_forge' })
    expect(await hosted.host.readFile('acme', 'project', `agentgate/${run.id}`, 'answer.txt')).toBe('right\n')
  })

  test('a pull request asked for by name is refused at once', async () => {
    const asked = deliver(await cases.host({ credential: 'no_forge' }), { mode: 'pull_request' })
    await expect(asked).rejects.toMatchObject({
      status: 400,
      code: 'INVALID_VALUE',
      details: { errors: [{ field: '/delivery/mode' }] },
    })
  })

  test('or no credential for it, one asked for by name fails before anything was spent on it', async () => {
    const host = await startGitHost()
    const { url } = await host.createRepository({ owner: 'acme', name: 'project', files: FILES })
    const forge = `${new URL(host.url).host}=${host.url}/api/v3`
    await using known = await startCases(stories({ answer: STEPS }), { AGENTGATE_GITHUB_HOSTS: forge })
    const run = await known.run({ repository: url, story: 'answer', delivery: { mode: 'pull_request' } })
    await host.close()
    expectFailure(run, {
      reason: 'delivery_failed',
      stage: 'delivery',
      says: /no credential/,
      retryable: false,
    })
    expect(run.usage.steps).toBe(0)
  })
})

describe.concurrent('a delivery', () => {
  test('to a branch opens no pull request', async () => {
    const hosted = await cases.host()
    const run = await deliver(hosted, { mode: 'branch', branch: 'answers/two' })
    expect(run.delivery).toEqual({ mode: 'branch', branch: 'answers/two', commit: expect.any(String) })
    expect(await hosted.host.head('acme', 'project', 'answers/two')).toBe(run.delivery?.commit)
    expect(hosted.host.pulls('acme', 'project')).toEqual([])
  })

  test('of none pushes nothing, and the change is an artifact', async () => {
    const hosted = await cases.host()
    const run = await deliver(hosted, { mode: 'none' })
    expect(run).toMatchObject({ state: 'completed', delivery: { mode: 'none' } })
    expect(requestsTo(hosted, 'POST', '/acme/project.git/git-receive-pack')).toBe(0)
    expect((await cases.artifacts(run.id)).get('changes.diff')?.text).toContain('+right')
  })

  test('to a branch that exists is refused, and that branch left as it was', async () => {
    const hosted = await cases.host()
    const taken = await hosted.host.commit('acme/project', 'taken', { 'mine.txt': 'mine\n' })
    const run = await deliver(hosted, { mode: 'branch', branch: 'taken' })
    expectFailure(run, { reason: 'push_rejected', stage: 'delivery', says: /branch taken/ })
    expect(await hosted.host.head('acme', 'project', 'taken')).toBe(taken)
  })
})

describe('what happens on the host while the agent works', () => {
  test('a base that only went on does not matter', async () => {
    const hosted = await cases.host()
    const run = await deliverAfter(hosted, (host) =>
      host.commit('acme/project', 'main', { 'new.txt': 'new\n' }),
    )
    expect(run).toMatchObject({ state: 'completed', prUrl: expect.any(String) })
  })

  test('a base that was rewritten is base_moved, and nothing is pushed', async () => {
    const hosted = await cases.host()
    const run = await deliverAfter(hosted, async (host) => {
      const other = await host.commit('acme/project', 'unrelated', { 'other.txt': 'other\n' })
      await host.moveBranch('acme/project', 'main', other)
    })
    expectFailure(run, {
      reason: 'base_moved',
      stage: 'delivery',
      says: /rewritten.*run again/,
      retryable: true,
    })
    expect(await hosted.host.head('acme', 'project', `agentgate/${run.id}`)).toBeUndefined()
  })

  test('a token that was revoked is push_rejected, and can be retried with another', async () => {
    const hosted = await cases.host()
    const run = await deliverAfter(hosted, async (host) => host.revoke('acme/project'))
    expectFailure(run, { reason: 'push_rejected', stage: 'delivery', says: /\/v1\/git-credentials/ })
    expect(run.verification).toBe('passed')
    expect((await cases.artifacts(run.id)).get('changes.diff')?.text).toContain('+right')
  })
})

describe('a test key', () => {
  test('clones and verifies for real, delivers inside the server, calls no forge and costs nothing', async () => {
    const { gate } = cases.here
    const hosted = await cases.host({ private: false })
    const before = await gate.client.credits.get()
    const script = {
      steps: [
        { calls: [{ tool: 'write_file', arguments: { path: 'answer.txt', content: 'right\n' } }] },
        { text: 'Wrote the answer.' },
      ],
    }
    const order = await gate.testClient.workOrders.create({
      taskPrompt: 'Answer.',
      workspaceSource: { type: 'git', repository: hosted.repository },
      gatePlan: ANSWERED,
      test: { script },
    })
    const run = await gate.testClient.runs.wait(order.runId, { timeout: 60_000 })
    expect(run).toMatchObject({
      mode: 'test',
      state: 'completed',
      verification: 'passed',
      output: 'Wrote the answer.',
      cost: { credits: 0 },
      delivery: { mode: 'pull_request', branch: `agentgate/${run.id}`, prUrl: run.prUrl },
    })
    expect(run.prUrl).toBe(`${gate.url}/v1/runs/${run.id}/artifacts/changes.diff`)
    const headers = { authorization: `Bearer ${gate.testKey}` }
    const change = await fetch(run.prUrl ?? '', { headers })
    expect(change.status).toBe(200)
    expect(await change.text()).toContain('+++ b/answer.txt\n@@ -0,0 +1 @@\n+right\n')
    expect(
      hosted.host.requests.filter(({ path }) => path.startsWith('/api/') || path.includes('receive-pack')),
    ).toEqual([])
    expect(await gate.client.credits.get()).toEqual(before)
    await expect(gate.client.runs.get(run.id)).rejects.toMatchObject({ status: 404 })
  })
})

test('none of these runs still holds credit, and each was charged what it says', async () => {
  await expectSettled(cases)
})
