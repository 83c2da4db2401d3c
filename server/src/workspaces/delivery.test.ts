import { execFileSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { failureOf, type HostedSource, hostSource } from './hosted-source.fixture.ts'
import type { Workspace } from './workspace.ts'

const BRANCH = 'agentgate/run_1'

async function sealChange(workspace: Workspace, content: string): Promise<string> {
  await writeFile(join(workspace.tree, 'README.md'), content)
  return (await workspace.seal('Change', 0)).commit
}

const remoteHead = (source: HostedSource, branch = BRANCH) => source.host.head('acme', 'shop', branch)

test('a commit is pushed once, and pushing it again changes nothing', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  const commit = await sealChange(workspace, 'changed\n')
  expect(await workspace.push({ commit, branch: BRANCH })).toEqual({ outcome: 'pushed' })
  expect(await source.host.readFile('acme', 'shop', BRANCH, 'README.md')).toBe('changed\n')
  expect(await workspace.push({ commit, branch: BRANCH })).toEqual({ outcome: 'up_to_date' })
  expect(source.asked.map((request) => request.use)).toEqual(['read', 'publish', 'publish'])
})

test('a push whose answer was lost is found done by the next process', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  const commit = await sealChange(workspace, 'changed\n')
  await workspace.checkpoint(1, 1)
  await workspace.push({ commit, branch: BRANCH })
  const again = await source
    .another()
    .reopen({ runId: 'run_1', organisation: 'org', repository: source.access.url })
  expect(await again?.push({ commit, branch: BRANCH })).toEqual({ outcome: 'up_to_date' })
})

test('a later iteration replaces its own branch only where it stands as expected', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  const first = await sealChange(workspace, 'one\n')
  await workspace.push({ commit: first, branch: BRANCH })
  const second = await sealChange(workspace, 'two\n')
  expect(await failureOf(workspace.push({ commit: second, branch: BRANCH }))).toMatchObject({
    reason: 'push_rejected',
    retryable: false,
  })
  expect(await remoteHead(source)).toBe(first)
  expect(await workspace.push({ commit: second, branch: BRANCH, expected: first })).toEqual({
    outcome: 'pushed',
  })
  expect(await remoteHead(source)).toBe(second)
})

test('a branch that somebody else moved is not overwritten', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  const first = await sealChange(workspace, 'one\n')
  await workspace.push({ commit: first, branch: BRANCH })
  const theirs = await source.host.commit('acme/shop', BRANCH, { 'theirs.txt': 'x' })
  const second = await sealChange(workspace, 'two\n')
  const failure = await failureOf(workspace.push({ commit: second, branch: BRANCH, expected: first }))
  expect(failure).toMatchObject({
    reason: 'push_rejected',
    message: expect.stringContaining('somebody else'),
  })
  expect(await remoteHead(source)).toBe(theirs)
})

test('a base that only moved on is delivered to, one that was rewritten or removed is not', async () => {
  await using source = await hostSource()
  await source.host.commit('acme/shop', 'main', { 'second.txt': '2' })
  const workspace = await source.open('run_1')
  const commit = await sealChange(workspace, 'changed\n')
  await source.host.commit('acme/shop', 'main', { 'later.txt': 'x' })
  expect(await workspace.push({ commit, branch: BRANCH })).toEqual({ outcome: 'pushed' })

  const { folder } = source.host.repository('acme/shop')
  const root = execFileSync('git', ['--git-dir', folder, 'rev-list', '--max-parents=0', 'main'])
    .toString()
    .trim()
  await source.host.moveBranch('acme/shop', 'main', root)
  const rewritten = await failureOf(workspace.push({ commit, branch: 'agentgate/other' }))
  expect(rewritten).toMatchObject({ reason: 'base_moved', retryable: true })
  await source.host.moveBranch('acme/shop', 'main', undefined)
  expect((await failureOf(workspace.push({ commit, branch: 'agentgate/other' }))).reason).toBe('base_moved')
  expect(await remoteHead(source, 'agentgate/other')).toBeUndefined()
})

test('where the base has not moved a push is the only question, and the base is not touched', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  const commit = await sealChange(workspace, 'changed\n')
  const asked = source.host.requests.length
  expect(await workspace.push({ commit, branch: BRANCH })).toEqual({ outcome: 'pushed' })
  expect(source.host.requests.slice(asked).map(({ path }) => path.replace(/.*\.git\//, ''))).toEqual([
    'info/refs?service=git-receive-pack',
    'git-receive-pack',
  ])
  expect(await remoteHead(source, 'main')).toBe(workspace.baseCommit)
})

test('a host that knows no pushes of several branches as one is delivered to, and its base is looked at', async () => {
  await using source = await hostSource()
  const { folder } = source.host.repository('acme/shop')
  execFileSync('git', ['--git-dir', folder, 'config', 'receive.advertiseAtomic', 'false'])
  const workspace = await source.open('run_1')
  const commit = await sealChange(workspace, 'changed\n')
  expect(await workspace.push({ commit, branch: BRANCH })).toEqual({ outcome: 'pushed' })
  expect(await workspace.push({ commit, branch: BRANCH })).toEqual({ outcome: 'up_to_date' })
  await source.host.moveBranch('acme/shop', 'main', undefined)
  const failure = await failureOf(workspace.push({ commit, branch: 'agentgate/other' }))
  expect(failure.reason).toBe('base_moved')
})

test('the base itself can be the branch that is delivered to, where it stands as expected', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  const commit = await sealChange(workspace, 'changed\n')
  const failure = await failureOf(workspace.push({ commit, branch: 'main' }))
  expect(failure.reason).toBe('push_rejected')
  const expected = workspace.baseCommit
  expect(await workspace.push({ commit, branch: 'main', expected })).toEqual({ outcome: 'pushed' })
  expect(await remoteHead(source, 'main')).toBe(commit)
})

test.each([
  [
    'the credential was revoked',
    (source: HostedSource) => source.host.revoke('acme/shop'),
    'push_rejected',
    false,
  ],
  [
    'the host refuses writing',
    (source: HostedSource) => source.host.fail({ path: 'git-receive-pack', status: 403 }),
    'push_rejected',
    false,
  ],
  [
    'the host has trouble',
    (source: HostedSource) => source.host.fail({ path: 'info/refs', status: 502 }),
    'delivery_failed',
    true,
  ],
  [
    'the host redirects',
    (source: HostedSource) =>
      source.host.fail({ path: 'info/refs', status: 301, headers: { location: 'http://127.0.0.1:1/' } }),
    'delivery_failed',
    false,
  ],
])('when %s the push fails with its reason', async (_what, spoil, reason, retryable) => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  const commit = await sealChange(workspace, 'changed\n')
  spoil(source)
  const failure = await failureOf(workspace.push({ commit, branch: BRANCH }))
  expect(failure).toMatchObject({ reason, retryable })
  expect(failure.message).not.toContain(source.access.token)
  expect(await remoteHead(source)).toBeUndefined()
})

test('a host that declines the branch is quoted', async () => {
  await using source = await hostSource()
  const { folder } = source.host.repository('acme/shop')
  execFileSync('git', ['--git-dir', folder, 'config', 'receive.denyCurrentBranch', 'refuse'])
  await writeFile(join(folder, 'hooks-are-data'), '')
  execFileSync('git', ['--git-dir', folder, 'config', 'receive.hideRefs', 'refs/heads/agentgate'])
  const workspace = await source.open('run_1')
  const commit = await sealChange(workspace, 'changed\n')
  const failure = await failureOf(workspace.push({ commit, branch: BRANCH }))
  expect(failure).toMatchObject({
    reason: 'push_rejected',
    message: expect.stringContaining('deny updating a hidden ref'),
  })
})

test('a test run delivers to a bare repository inside the server and asks no host', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  const commit = await sealChange(workspace, 'changed\n')
  const requests = source.host.requests.length
  expect(await workspace.push({ commit, branch: BRANCH, to: 'test' })).toEqual({ outcome: 'pushed' })
  expect(await workspace.push({ commit, branch: BRANCH, to: 'test' })).toEqual({ outcome: 'up_to_date' })
  const remote = source.workspaces.testRemote('org', source.access.url)
  expect(execFileSync('git', ['--git-dir', remote, 'show', `${BRANCH}:README.md`]).toString()).toBe(
    'changed\n',
  )
  expect(source.host.requests).toHaveLength(requests)
  expect(await remoteHead(source)).toBeUndefined()
})

test('the credential stands in no argument of any process while git pushes', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  const commit = await sealChange(workspace, 'changed\n')
  const basic = Buffer.from(`x-access-token:${source.access.token}`).toString('base64')
  source.host.fail({ path: 'info/refs', delayMs: 300, times: 1 })
  const before = source.host.requests.length
  const pushing = workspace.push({ commit, branch: BRANCH })
  while (source.host.requests.length === before) await new Promise((resolve) => setImmediate(resolve))
  const commands = execFileSync('sh', ['-c', 'cat /proc/[0-9]*/cmdline 2>/dev/null || true']).toString(
    'latin1',
  )
  expect(commands).toContain('--force-with-lease')
  expect(commands).not.toContain(source.access.token)
  expect(commands).not.toContain(basic)
  await pushing
})
