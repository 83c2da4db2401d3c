import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Secret } from '../../lib/secret.ts'
import { failureOf, type HostedSource, hostSource } from '../hosted-source.fixture.ts'
import { forgeFor } from './forge-for.ts'
import { GitHubForge } from './github-forge.ts'

const BRANCH = 'agentgate/run_1'
const DRAFT = {
  title: 'Fix it',
  body: 'Body',
  head: BRANCH,
  base: 'main',
  draft: true,
  labels: [],
  reviewers: [],
}

const forgeOf = ({ access }: HostedSource, token = access.token) =>
  new GitHubForge({
    apiBaseUrl: access.apiBaseUrl,
    token: new Secret(token),
    owner: 'acme',
    name: 'shop',
    backoff: { firstMs: 1, factor: 1, maxMs: 1 },
  })

/** A source with a pushed branch, as a run has it when it turns to the forge. */
async function withPushedBranch(): Promise<HostedSource & { commit: string }> {
  const source = await hostSource()
  const workspace = await source.open('run_1')
  await writeFile(join(workspace.tree, 'README.md'), 'changed\n')
  const { commit } = await workspace.seal('Change', 0)
  await workspace.push({ commit, branch: BRANCH })
  return Object.assign(source, { commit })
}

test('a pull request is opened with its labels and reviewers', async () => {
  await using source = await withPushedBranch()
  const made = await forgeOf(source).createPullRequest({ ...DRAFT, labels: ['bot'], reviewers: ['ada'] })
  expect(made).toEqual({
    outcome: 'created',
    number: 1,
    url: `${source.host.url}/acme/shop/pull/1`,
    warnings: [],
  })
  expect(source.host.pulls('acme', 'shop')).toMatchObject([
    {
      title: 'Fix it',
      body: 'Body',
      head: BRANCH,
      base: 'main',
      draft: true,
      labels: ['bot'],
      reviewers: ['ada'],
    },
  ])
})

test('opening it again, as after a crash, finds the one that is there', async () => {
  await using source = await withPushedBranch()
  const made = await forgeOf(source).createPullRequest(DRAFT)
  expect(await forgeOf(source).createPullRequest(DRAFT)).toEqual({ ...made, outcome: 'found' })
  expect(source.host.pulls('acme', 'shop')).toHaveLength(1)
})

test('an answer that was lost does not open a second one', async () => {
  await using source = await withPushedBranch()
  source.host.fail({ method: 'POST', path: '/pulls', status: 502, times: 1, afterEffect: true })
  expect(await forgeOf(source).createPullRequest(DRAFT)).toMatchObject({ outcome: 'found', number: 1 })
  expect(source.host.pulls('acme', 'shop')).toHaveLength(1)
})

test.each([502, 503, 429])('a forge that answers %i twice is asked again', async (status) => {
  await using source = await withPushedBranch()
  source.host.fail({ method: 'POST', path: '/pulls', status, times: 2 })
  expect(await forgeOf(source).createPullRequest(DRAFT)).toMatchObject({ outcome: 'created' })
})

test('a forge that stays down is asked four times and then named as worth a later try', async () => {
  await using source = await withPushedBranch()
  source.host.fail({ path: '/pulls', status: 502 })
  const before = source.host.requests.length
  const failure = await failureOf(forgeOf(source).createPullRequest(DRAFT))
  expect(failure).toMatchObject({ reason: 'delivery_failed', retryable: true })
  expect(source.host.requests.length - before).toBe(4)
})

test('a forge that is gone is named as worth a later try', async () => {
  await using source = await withPushedBranch()
  await source.host.close()
  const failure = await failureOf(forgeOf(source).createPullRequest(DRAFT))
  expect(failure).toMatchObject({ reason: 'delivery_failed', retryable: true })
})

test.each([
  [401, 'push_rejected', 'did not accept the credential'],
  [403, 'push_rejected', 'may not open pull requests'],
  [404, 'push_rejected', 'shows no repository'],
  [301, 'delivery_failed', 'redirects'],
  [418, 'delivery_failed', 'answered 418'],
])(
  'a forge that answers %i is not asked again, and the failure says what to do',
  async (status, reason, sentence) => {
    await using source = await withPushedBranch()
    source.host.fail({ path: '/pulls', status, headers: { location: 'http://127.0.0.1:1/' } })
    const before = source.host.requests.length
    const failure = await failureOf(forgeOf(source).createPullRequest(DRAFT))
    expect(failure).toMatchObject({ reason, retryable: false })
    expect(failure.message).toContain(sentence)
    expect(failure.message).not.toContain(source.access.token)
    expect(source.host.requests.length - before).toBe(1)
  },
)

test('a branch that is not there is a refusal that is quoted', async () => {
  await using source = await withPushedBranch()
  const failure = await failureOf(forgeOf(source).createPullRequest({ ...DRAFT, head: 'nope' }))
  expect(failure).toMatchObject({ reason: 'delivery_failed', retryable: false })
  expect(failure.message).toContain('Validation Failed')
})

test('a label that cannot be set leaves the pull request standing, with a warning', async () => {
  await using source = await withPushedBranch()
  source.host.fail({ path: '/labels', status: 403 })
  const made = await forgeOf(source).createPullRequest({ ...DRAFT, labels: ['bot'] })
  expect(made).toMatchObject({ outcome: 'created', warnings: [expect.stringContaining('labels')] })
})

test('a canceled request ends with the reason of the cancel', async () => {
  await using source = await withPushedBranch()
  source.host.fail({ path: '/pulls', delayMs: 60_000 })
  const cancel = new AbortController()
  const creating = forgeOf(source).createPullRequest(DRAFT, cancel.signal)
  setImmediate(() => cancel.abort(new Error('canceled by the user')))
  await expect(creating).rejects.toThrow('canceled by the user')
})

test('repository, branch head, comment and status', async () => {
  await using source = await withPushedBranch()
  const forge = forgeOf(source)
  expect(await forge.repository()).toEqual({
    defaultBranch: 'main',
    isPrivate: true,
    url: `${source.host.url}/acme/shop`,
  })
  expect(await forge.branchHead(BRANCH)).toBe(source.commit)
  expect(await forge.branchHead('nope')).toBeUndefined()
  expect(await forge.findOpenPullRequest(BRANCH, 'main')).toBeUndefined()
  const { number } = await forge.createPullRequest(DRAFT)
  await forge.comment(number, 'Hello')
  await forge.setStatus(source.commit, { state: 'success', context: 'agentgate', description: 'ok' })
  const { comments, statuses } = source.host.repository('acme/shop')
  expect(comments).toEqual([{ number: 1, body: 'Hello' }])
  expect(statuses).toMatchObject([{ sha: source.commit, state: 'success', context: 'agentgate' }])
})

test('only a known host with a credential has a forge', () => {
  const config = {
    apiBaseUrls: { 'git.corp': 'https://git.corp/api/v3' },
    token: new Secret('t'),
  }
  expect(forgeFor('https://github.com/acme/shop.git', config)).toBeDefined()
  expect(forgeFor('https://git.corp/acme/shop', config)).toBeDefined()
  expect(forgeFor('https://other.example/acme/shop', config)).toBeUndefined()
  expect(forgeFor('https://toString/acme/shop', config)).toBeUndefined()
  expect(forgeFor('https://github.com/acme', config)).toBeUndefined()
  expect(forgeFor('https://github.com/acme/shop', { ...config, token: undefined })).toBeUndefined()
})
