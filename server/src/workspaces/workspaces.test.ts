import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { chmod, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { needsRoot } from '../../test/harness/report.ts'
import { giveTree } from '../jail/ownership.ts'
import { FILES, failureOf, type HostedSource, hostSource } from './hosted-source.fixture.ts'

const put = (folder: string, path: string, content: string) => writeFile(join(folder, path), content)
const get = (folder: string, path: string) => readFile(join(folder, path), 'utf8').catch(() => undefined)
const mirrorOf = ({ root }: HostedSource) => {
  const name = readdirSync(join(root, 'mirrors')).find((entry) => entry.endsWith('.git'))
  return join(root, 'mirrors', name ?? 'none')
}
const fetches = (source: HostedSource) =>
  source.host.requests.filter(({ method, path }) => method === 'POST' && path.endsWith('git-upload-pack'))
    .length

test('a workspace holds the files of the default branch at its head', async () => {
  await using source = await hostSource({ defaultBranch: 'trunk' })
  const workspace = await source.open('run_1')

  expect(workspace.baseBranch).toBe('trunk')
  expect(workspace.baseCommit).toBe(await source.host.head('acme', 'shop', 'trunk'))
  for (const [path, content] of Object.entries(FILES)) expect(await get(workspace.tree, path)).toBe(content)
  const status = execFileSync('git', ['status', '--porcelain', '--branch'], {
    cwd: workspace.tree,
  }).toString()
  expect(status).toBe('## trunk\n')
})

test('a branch and a commit, also a shortened one, can be named', async () => {
  await using source = await hostSource()
  const first = await source.host.head('acme', 'shop', 'main')
  const second = await source.host.commit('acme/shop', 'main', { 'README.md': 'second\n' })
  await source.host.moveBranch('acme/shop', 'feature/one', second)
  await source.host.commit('acme/shop', 'feature/one', { 'one.txt': '1\n' })

  const branch = await source.open('run_1', { branch: 'feature/one' })
  expect([branch.baseBranch, await get(branch.tree, 'one.txt')]).toEqual(['feature/one', '1\n'])
  const old = await source.open('run_2', { commit: first?.slice(0, 10) ?? '' })
  expect([old.baseCommit, await get(old.tree, 'README.md')]).toEqual([first, '# Shop\n'])
})

test('nothing in the tree names the source or its credential', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  const grep = execFileSync(
    'grep',
    ['-rlaE', `${source.access.token}|${new URL(source.access.url).host}`, source.root, '-s'].concat(),
    {
      encoding: 'utf8',
    },
  ).trim()
  expect(grep.split('\n')).toEqual([join(source.root, 'runs/run_1/about.json')])
  expect(readFileSync(grep, 'utf8')).not.toContain(source.access.token)
  expect(await get(workspace.tree, '.git/config')).not.toContain('remote')
})

test.each([
  ['a branch that is not there', { branch: 'nope' }, 'source_invalid', 'has no branch nope'],
  ['a branch that is no name', { branch: '--upload-pack=x' }, 'source_invalid', 'not a name that git allows'],
  ['a commit that is not there', { commit: 'a'.repeat(40) }, 'source_invalid', 'has no commit aaaa'],
  ['a commit that is no name', { commit: 'HEAD~1' }, 'source_invalid', 'hexadecimal'],
])('%s is named', async (_what, more, reason, sentence) => {
  await using source = await hostSource()
  const failure = await failureOf(source.open('run_1', more))
  expect(failure).toMatchObject({ reason, retryable: false })
  expect(failure.message).toContain(sentence)
})

test('an empty repository is named', async () => {
  await using source = await hostSource()
  const { url } = await source.host.createRepository({ owner: 'acme', name: 'empty' })
  const anonymous = source.another({ findCredential: async () => undefined })
  const failure = await failureOf(anonymous.open({ runId: 'run_1', organisation: 'org', repository: url }))
  expect(failure).toMatchObject({ reason: 'source_invalid', message: expect.stringContaining('is empty') })
})

test.each([
  [401, {}, 'source_auth_failed', false],
  [403, {}, 'source_auth_failed', false],
  [404, {}, 'source_invalid', false],
  [500, {}, 'source_unavailable', true],
  [503, {}, 'source_unavailable', true],
  [
    302,
    { location: 'http://127.0.0.1:1/acme/shop.git/info/refs?service=git-upload-pack' },
    'source_invalid',
    false,
  ],
])(
  'a host that answers %i makes the run fail with its reason',
  async (status, headers, reason, retryable) => {
    await using source = await hostSource()
    source.host.fail({ path: '/info/refs', status, headers })
    const failure = await failureOf(source.open('run_1'))
    expect(failure).toMatchObject({ reason, retryable })
    expect(failure.message).not.toContain(source.access.token)
  },
)

test('a host that is not there is unavailable', async () => {
  await using source = await hostSource()
  await source.host.close()
  expect(await failureOf(source.open('run_1'))).toMatchObject({
    reason: 'source_unavailable',
    retryable: true,
  })
})

test('a revoked credential is named, also when a mirror of the repository is here', async () => {
  await using source = await hostSource()
  for (const runId of ['run_1', 'run_2']) await source.open(runId)
  source.host.revoke('acme/shop')
  expect(await failureOf(source.open('run_3'))).toMatchObject({ reason: 'source_auth_failed' })
  await source.workspaces.remove('run_3')
  expect((await readdir(join(source.root, 'runs'))).sort()).toEqual(['run_1', 'run_2'])
})

test('a canceled opening stops git and throws the reason of the cancel', async () => {
  await using source = await hostSource()
  source.host.fail({ path: '/info/refs', delayMs: 60_000 })
  const cancel = new AbortController()
  const opening = source.workspaces.open({
    runId: 'run_1',
    organisation: 'org',
    repository: source.access.url,
    signal: cancel.signal,
  })
  setImmediate(() => cancel.abort(new Error('canceled by the user')))
  await expect(opening).rejects.toThrow('canceled by the user')
})

test('a repository over the limit is a disk limit and leaves nothing', async () => {
  const noise = Buffer.from(Array.from({ length: 300_000 }, (_, at) => (at * at * 31 + at) % 251))
  await using source = await hostSource({ files: { big: noise } })
  const small = source.another({ diskLimitBytes: 1000 })
  const failure = await failureOf(
    small.open({ runId: 'run_1', organisation: 'org', repository: source.access.url }),
  )
  expect(failure.reason).toBe('disk_limit')
  expect(await readdir(join(source.root, 'mirrors'))).toEqual([])
})

test('a checkpoint is restored with its deleted, new and ignored files, and later ones are forgotten', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  const { tree } = workspace
  await put(tree, 'README.md', 'changed\n')
  await put(tree, 'new.txt', 'new\n')
  await put(tree, '.env', 'A=1\n')
  await rm(join(tree, 'src'), { recursive: true })
  expect(await workspace.checkpoint(3, 1)).toMatchObject({ changed: true })
  expect(await workspace.checkpoint(4, 1)).toMatchObject({ changed: false })
  await put(tree, 'README.md', 'later\n')
  await put(tree, '.env', 'A=2\n')
  await put(tree, 'later.txt', 'later\n')
  await rm(join(tree, 'new.txt'))
  await workspace.checkpoint(6, 2)

  expect(await workspace.restore(5)).toMatchObject({ step: 4 })
  const now = async () => [
    await get(tree, 'README.md'),
    await get(tree, 'new.txt'),
    await get(tree, '.env'),
    await get(tree, 'src/price.js'),
    await get(tree, 'later.txt'),
  ]
  expect(await now()).toEqual(['changed\n', 'new\n', 'A=1\n', undefined, undefined])
  expect(await workspace.restore()).toMatchObject({ step: 4 })
  const sealed = await workspace.seal('Change it', 0)
  const changes = await workspace.changes(sealed.commit)
  expect(changes.map((file) => `${file.status} ${file.path}`).sort()).toEqual([
    'added new.txt',
    'deleted src/price.js',
    'modified README.md',
  ])
})

test('restoring before the first checkpoint gives the base back', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  await put(workspace.tree, 'README.md', 'changed\n')
  await workspace.checkpoint(5, 1)
  expect(await workspace.restore(4)).toBeUndefined()
  expect(await get(workspace.tree, 'README.md')).toBe('# Shop\n')
  expect((await workspace.seal('x', 0)).changed).toBe(false)
})

test('sealing twice gives the same commit, on top of the base, by AgentGate, without ignored files', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  await put(workspace.tree, 'README.md', 'changed\nmore\n')
  await put(workspace.tree, '.env', 'SECRET=1\n')
  await workspace.checkpoint(1, 1)
  const sealed = await workspace.seal('Raise the price\n\nBody', 1_700_000_000_500)
  expect(await workspace.seal('Raise the price\n\nBody', 1_700_000_000_500)).toEqual(sealed)
  expect(sealed).toMatchObject({ changed: true, skipped: [] })
  expect(await workspace.changes(sealed.commit)).toEqual([
    { path: 'README.md', status: 'modified', added: 2, removed: 1, binary: false },
  ])
  const store = join(source.root, 'runs/run_1/store.git')
  const shown = execFileSync('git', [
    '--git-dir',
    store,
    'show',
    '-s',
    '--format=%P|%an|%ct|%B',
    sealed.commit,
  ]).toString()
  expect(shown.trim()).toBe(`${workspace.baseCommit}|AgentGate|1700000000|Raise the price\n\nBody`)
  const { text, truncated } = await workspace.diff(sealed.commit)
  expect(text).toContain('+more\n')
  expect(truncated).toBe(false)
})

test('a commit is checked out exactly, without a .git and without what was ignored', async () => {
  await using source = await hostSource({ files: { ...FILES, 'run.sh': { script: '#!/bin/sh\n' } } })
  const workspace = await source.open('run_1')
  await put(workspace.tree, '.env', 'A=1\n')
  await put(workspace.tree, 'new.txt', 'new\n')
  const { commit } = await workspace.seal('x', 0)
  await put(workspace.tree, 'new.txt', 'after\n')
  const folder = join(source.root, 'gate')
  await workspace.checkoutTo(commit, folder)
  expect((await readdir(folder)).sort()).toEqual(['.gitignore', 'README.md', 'new.txt', 'run.sh', 'src'])
  expect(await get(folder, 'new.txt')).toBe('new\n')
  expect(statSync(join(folder, 'run.sh')).mode & 0o111).not.toBe(0)
  expect(await workspace.listFilesAt(commit)).toEqual([
    '.gitignore',
    'README.md',
    'new.txt',
    'run.sh',
    'src/price.js',
  ])
  expect((await failureOf(workspace.checkoutTo(commit, folder))).reason).toBe('workspace_failed')
})

test('a file is read from the base commit, not from the tree, and never through a link', async () => {
  await using source = await hostSource({
    files: { 'agentgate.yaml': 'a: 1\n', link: { link: '/etc/passwd' } },
  })
  const workspace = await source.open('run_1')
  await put(workspace.tree, 'agentgate.yaml', 'a: 2\n')
  expect(await workspace.readFileAtBase('agentgate.yaml', 1000)).toBe('a: 1\n')
  expect(await workspace.readFileAtBase('link', 1000)).toBeUndefined()
  expect(await workspace.readFileAtBase('../../etc/passwd', 1000).catch(() => undefined)).toBeUndefined()
  expect((await failureOf(workspace.readFileAtBase('agentgate.yaml', 3))).reason).toBe('source_invalid')
})

test('another process of this machine reopens a run at its newest checkpoint', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  await put(workspace.tree, 'README.md', 'kept\n')
  await workspace.checkpoint(2, 1)
  await put(workspace.tree, 'README.md', 'lost\n')
  writeFileSync(join(source.root, 'runs/run_1/store.git/index.lock'), '')
  writeFileSync(join(source.root, 'runs/run_1/store.git/index'), 'torn')

  const request = { runId: 'run_1', organisation: 'org', repository: source.access.url }
  const again = await source.another().reopen(request)
  expect(again?.baseCommit).toBe(workspace.baseCommit)
  expect(await get(workspace.tree, 'README.md')).toBe('kept\n')
  expect(await source.another().reopen({ ...request, organisation: 'other' })).toBeUndefined()
  expect(await source.another().reopen({ ...request, runId: 'run_2' })).toBeUndefined()
})

test('a run without a checkpoint or with half a folder is not reopened, and opens afresh', async () => {
  await using source = await hostSource()
  const request = { runId: 'run_1', organisation: 'org', repository: source.access.url }
  const workspace = await source.open('run_1')
  expect(await source.workspaces.reopen(request)).toBeUndefined()
  await put(workspace.tree, 'junk', 'x')
  await rm(join(source.root, 'runs/run_1/about.json'))
  expect(await source.workspaces.reopen(request)).toBeUndefined()
  await source.open('run_1')
  expect(await get(workspace.tree, 'junk')).toBeUndefined()
})

test.each(['about.json', 'store.git/HEAD'])(
  'a run whose %s a power cut has emptied has no checkpoint here, and opens afresh',
  async (file) => {
    await using source = await hostSource()
    const request = { runId: 'run_1', organisation: 'org', repository: source.access.url }
    const workspace = await source.open('run_1')
    await workspace.checkpoint(1, 1)
    expect(await source.another().newestCheckpoint('run_1')).toBe(1)
    await writeFile(join(source.root, 'runs/run_1', file), '')
    expect(await source.another().newestCheckpoint('run_1')).toBeUndefined()
    expect(await source.another().reopen(request)).toBeUndefined()
    await source.open('run_1')
    expect(await source.another().newestCheckpoint('run_1')).toBeUndefined()
  },
)

test('a bundle carries an iteration to another machine, where the same commit is sealed', async () => {
  await using source = await hostSource()
  await using elsewhere = await hostSource()
  const workspace = await source.open('run_1')
  await put(workspace.tree, 'README.md', 'changed\n')
  await workspace.checkpoint(7, 1)
  const sealed = await workspace.seal('x', 1000)
  const bundle = await workspace.bundle(sealed.commit)
  expect((await workspace.bundle(workspace.baseCommit)).length).toBe(0)

  const other = source.another({ root: elsewhere.root })
  const request = {
    runId: 'run_1',
    organisation: 'org',
    repository: source.access.url,
    commit: workspace.baseCommit,
  }
  await source.host.commit('acme/shop', 'main', { 'later.txt': 'x' })
  const again = await other.reopenFromBundle({ ...request, bundle })
  expect(await get(again.tree, 'README.md')).toBe('changed\n')
  expect(await again.restore()).toMatchObject({ step: 7 })
  expect((await again.seal('x', 1000)).commit).toBe(sealed.commit)
  const broken = await failureOf(other.reopenFromBundle({ ...request, bundle: Buffer.from('junk') }))
  expect(broken.reason).toBe('workspace_failed')
})

test('a warm mirror answers from disk, and a moved branch is fetched', async () => {
  await using source = await hostSource()
  await source.open('run_1')
  const cold = fetches(source)
  await source.open('run_2')
  expect(fetches(source) - cold).toBe(1) // the listing of branches is the only question
  const moved = await source.host.commit('acme/shop', 'main', { 'README.md': 'moved\n' })
  expect((await source.open('run_3')).baseCommit).toBe(moved)
})

test.skipIf(needsRoot('a checkout by another user'))(
  'the user that the agent runs as owns the checkout from the beginning, and its index is up to date',
  async () => {
    await using source = await hostSource()
    await chmod(source.root, 0o711)
    const user = { uid: 60_001, gid: 60_001, own: (path: string) => giveTree(path, 60_001, 60_001) }
    const workspaces = source.another({ ownerOf: () => user })
    const request = { organisation: 'org', repository: source.access.url }
    const { tree } = await workspaces.open({ runId: 'run_1', ...request })
    const names = readdirSync(tree, { recursive: true, encoding: 'utf8' })
    const owners = names.map((name) => statSync(join(tree, name)).uid)
    expect(new Set(owners)).toEqual(new Set([60_001]))
    const place = ['--git-dir', join(source.root, 'runs/run_1/store.git'), '--work-tree', tree]
    expect(execFileSync('git', [...place, 'diff-files']).toString()).toBe('')
  },
)

test('two organisations do not share a mirror', async () => {
  await using source = await hostSource()
  await source.open('run_1')
  await source.workspaces.open({ runId: 'run_2', organisation: 'other', repository: source.access.url })
  expect((await readdir(join(source.root, 'mirrors'))).filter((name) => name.endsWith('.git'))).toHaveLength(
    2,
  )
  expect(source.asked.map((request) => request.organisation)).toEqual(['org', 'other'])
})

test('runs of one repository open at once, in two processes, on one mirror', async () => {
  await using source = await hostSource()
  const second = source.another()
  const request = (runId: string) => ({ runId, organisation: 'org', repository: source.access.url })
  const opened = await Promise.all([
    ...['run_1', 'run_2', 'run_3'].map((runId) => source.workspaces.open(request(runId))),
    ...['run_4', 'run_5', 'run_6'].map((runId) => second.open(request(runId))),
  ])
  for (const { tree } of opened) expect(await get(tree, 'README.md')).toBe('# Shop\n')
  expect(await readdir(join(source.root, 'mirrors'))).toHaveLength(1)
})

test('a mirror with a broken pack is repaired by reading the repository again', async () => {
  await using source = await hostSource()
  await source.open('run_1')
  const packs = join(mirrorOf(source), 'objects/pack')
  for (const name of await readdir(packs)) {
    const path = join(packs, name)
    await rm(path)
    await writeFile(path, 'broken')
  }
  const workspace = await source.open('run_2')
  expect(await get(workspace.tree, 'README.md')).toBe('# Shop\n')
})

test('a mirror that lost the files of a commit is repaired', async () => {
  await using source = await hostSource()
  const { baseCommit } = await source.open('run_1')
  const mirror = mirrorOf(source)
  const run = (...args: string[]) =>
    execFileSync('git', ['--git-dir', mirror, ...args], { input: '' }).toString()
  const commit = execFileSync('git', ['--git-dir', mirror, 'cat-file', 'commit', baseCommit])
  await rm(join(mirror, 'objects/pack'), { recursive: true })
  await mkdir(join(mirror, 'objects/pack'))
  execFileSync('git', ['--git-dir', mirror, 'hash-object', '-w', '-t', 'commit', '--literally', '--stdin'], {
    input: commit,
  })
  expect(run('cat-file', '-t', baseCommit).trim()).toBe('commit')
  const workspace = await source.open('run_2')
  expect(await get(workspace.tree, 'README.md')).toBe('# Shop\n')
})

test('locks that dead processes left behind stop nobody', async () => {
  await using source = await hostSource()
  await source.open('run_1')
  const mirror = mirrorOf(source)
  const { ino } = await stat(mirror)
  writeFileSync(join(mirror, 'packed-refs.lock'), '')
  writeFileSync(join(mirror, 'refs/heads/main.lock'), '')
  writeFileSync(`${mirror}.lock`, 'lock_of_the_dead')
  utimesSync(`${mirror}.lock`, 0, 0)
  const moved = await source.host.commit('acme/shop', 'main', { 'README.md': 'moved\n' })
  expect((await source.open('run_2')).baseCommit).toBe(moved)
  expect((await stat(mirror)).ino).toBe(ino) // the same mirror, not a new one
  await expect(stat(`${mirror}.lock`)).rejects.toThrow('ENOENT')
})

test('what the jail mounts is read-only and ours', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  const mounts = await workspace.mounts('/workspace')
  expect(mounts.every((mount) => mount.readOnly && !mount.source.startsWith(workspace.tree))).toBe(true)
  expect(mounts.map((mount) => mount.target)).toEqual([
    join(mirrorOf(source), 'objects'),
    '/workspace/.git/config',
    '/workspace/.git/hooks',
  ])
  await rm(join(workspace.tree, '.git'), { recursive: true })
  expect(await workspace.mounts('/workspace')).toHaveLength(1)
})

test('a removed workspace leaves nothing, and sweeping removes the runs that are over', async () => {
  await using source = await hostSource()
  for (const runId of ['run_1', 'run_2', 'run_3']) await source.open(runId)
  await source.workspaces.remove('run_1')
  expect((await readdir(join(source.root, 'runs'))).sort()).toEqual(['run_2', 'run_3'])
  expect(await source.workspaces.sweep(new Set(['run_3']))).toBe(1)
  expect(await readdir(join(source.root, 'runs'))).toEqual(['run_3'])
})
