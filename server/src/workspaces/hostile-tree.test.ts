import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { chmod, mkdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { failureOf, type HostedSource, hostSource } from './hosted-source.fixture.ts'
import type { Workspace } from './workspace.ts'

/** A program that leaves a file when anybody runs it. */
function plantCanary(source: HostedSource): { program: string; hasSung(): boolean } {
  const program = join(source.root, 'canary.sh')
  const trace = join(source.root, 'canary.trace')
  writeFileSync(program, `#!/bin/sh\ntouch ${trace}\ncat\n`)
  chmodSync(program, 0o755)
  return { program, hasSung: () => existsSync(trace) }
}

const hostileConfig = (program: string): string => `[core]
\tfsmonitor = ${program}
\thooksPath = ${program}
\tpager = ${program}
\tsshCommand = ${program}
\tattributesFile = /nonexistent
[filter "evil"]
\tclean = ${program}
\tsmudge = ${program}
\tprocess = ${program}
\trequired = true
[diff "evil"]
\tcommand = ${program}
\ttextconv = ${program}
[diff]
\texternal = ${program}
[merge "evil"]
\tdriver = ${program}
[credential]
\thelper = !${program}
[uploadpack]
\tpackObjectsHook = ${program}
`

const agentGit = (folder: string, ...args: string[]) =>
  execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b', ...args], { cwd: folder, stdio: 'pipe' })

/** Everything the worker does with a tree. */
async function workThrough(source: HostedSource, workspace: Workspace) {
  await workspace.checkpoint(1, 1)
  const sealed = await workspace.seal('x', 0)
  await workspace.diff(sealed.commit)
  await workspace.checkoutTo(sealed.commit, join(source.root, 'gate'))
  await workspace.restore()
  if (sealed.changed) await workspace.push({ commit: sealed.commit, branch: 'agentgate/run_1' })
  return sealed
}

test('hooks, filters, monitors and drivers that an agent planted never run', async () => {
  await using source = await hostSource()
  const canary = plantCanary(source)
  const workspace = await source.open('run_1')
  const { tree } = workspace
  await writeFile(join(tree, '.git/config'), hostileConfig(canary.program))
  await mkdir(join(tree, '.git/info'), { recursive: true })
  await writeFile(join(tree, '.git/info/attributes'), '* filter=evil diff=evil merge=evil\n')
  for (const name of [
    'pre-commit',
    'post-checkout',
    'pre-push',
    'reference-transaction',
    'post-index-change',
  ])
    await symlink(canary.program, join(tree, '.git/hooks', name))
  await writeFile(join(tree, '.gitattributes'), '* filter=evil diff=evil merge=evil text=auto\n')
  await writeFile(
    join(tree, '.gitmodules'),
    `[submodule "x"]\n\tpath = x\n\turl = !${canary.program}\n\tupdate = !${canary.program}\n`,
  )
  await writeFile(join(tree, '.gitconfig'), hostileConfig(canary.program))
  await writeFile(join(tree, 'README.md'), 'changed\n')

  const sealed = await workThrough(source, workspace)
  expect(await workspace.changedPaths(sealed.commit)).toEqual([
    '.gitattributes',
    '.gitconfig',
    '.gitmodules',
    'README.md',
  ])
  expect(canary.hasSung()).toBe(false)
  execFileSync(canary.program, { input: '' })
  expect(canary.hasSung()).toBe(true)
})

test('nested repositories are delivered as the files they hold, and their configuration never runs', async () => {
  await using source = await hostSource()
  const canary = plantCanary(source)
  const workspace = await source.open('run_1')
  const { tree } = workspace
  for (const [path, commits] of [
    ['app', true],
    ['app/deep/er', true],
    ['bare', false],
    ['ignored/pkg', true],
  ] as const) {
    mkdirSync(join(tree, path), { recursive: true })
    writeFileSync(join(tree, path, 'file.txt'), path)
    agentGit(join(tree, path), 'init', '-q')
    if (commits) {
      agentGit(join(tree, path), 'add', 'file.txt')
      agentGit(join(tree, path), 'commit', '-qm', 'inner')
    }
    writeFileSync(
      join(tree, path, '.git/config'),
      `[core]\n\trepositoryformatversion = 0\n\tfsmonitor = ${canary.program}\n`,
    )
  }
  const sealed = await workThrough(source, workspace)
  expect(await workspace.listFilesAt(sealed.commit)).toEqual([
    '.gitignore',
    'README.md',
    'app/deep/er/file.txt',
    'app/file.txt',
    'bare/file.txt',
    'src/price.js',
  ])
  expect(existsSync(join(tree, 'ignored/pkg/.git'))).toBe(true)
  expect(canary.hasSung()).toBe(false)
})

test('a submodule stays as the base has it, whatever the agent put in its place', async () => {
  await using source = await hostSource()
  const canary = plantCanary(source)
  const { folder } = source.host.repository('acme/shop')
  const head = await source.host.head('acme', 'shop', 'main')
  const listed = execFileSync('git', ['--git-dir', folder, 'ls-tree', `${head}`])
  const tree = execFileSync('git', ['--git-dir', folder, 'mktree', '--missing'], {
    input: `${listed.toString()}160000 commit ${'b'.repeat(40)}\tvendor\n`,
  })
  const commit = execFileSync('git', [
    '--git-dir',
    folder,
    '-c',
    'user.name=a',
    '-c',
    'user.email=a@b',
    'commit-tree',
    tree.toString().trim(),
    '-p',
    `${head}`,
    '-m',
    'sub',
  ])
  await source.host.moveBranch('acme/shop', 'main', commit.toString().trim())

  const workspace = await source.open('run_1')
  const vendor = join(workspace.tree, 'vendor')
  writeFileSync(join(vendor, 'file.txt'), 'x')
  agentGit(vendor, 'init', '-q')
  agentGit(vendor, 'add', 'file.txt')
  agentGit(vendor, 'commit', '-qm', 'inner')
  writeFileSync(
    join(vendor, '.git/config'),
    `[core]\n\trepositoryformatversion = 0\n\tfsmonitor = ${canary.program}\n`,
  )
  await writeFile(join(workspace.tree, 'README.md'), 'changed\n')
  const sealed = await workThrough(source, workspace)
  expect(await workspace.changedPaths(sealed.commit)).toEqual(['README.md'])
  expect(canary.hasSung()).toBe(false)
})

test('links are stored as links and never followed, neither reading nor restoring', async () => {
  await using source = await hostSource()
  const outside = join(source.root, 'outside')
  await mkdir(outside)
  await writeFile(join(outside, 'secret.txt'), 'host secret')
  const workspace = await source.open('run_1')
  const { tree } = workspace
  await writeFile(join(tree, 'src/more.js'), 'more\n')
  await workspace.checkpoint(1, 1)
  await rm(join(tree, 'src'), { recursive: true })
  symlinkSync(outside, join(tree, 'src'))
  symlinkSync('/etc/passwd', join(tree, 'passwd'))
  for (let at = 0; at < 300; at++) symlinkSync(`farm${(at + 1) % 300}`, join(tree, `farm${at}`))

  const sealed = await workspace.seal('x', 0)
  const { text } = await workspace.diff(sealed.commit)
  expect(text).not.toContain('host secret')
  expect(text).not.toContain('root:')
  expect(await readlink(join(tree, 'passwd'))).toBe('/etc/passwd')
  const folder = join(source.root, 'gate')
  await workspace.checkoutTo(sealed.commit, folder)
  expect(await readlink(join(folder, 'src'))).toBe(outside)

  await workspace.restore()
  expect(await readFile(join(tree, 'src/more.js'), 'utf8')).toBe('more\n')
  expect(execFileSync('ls', [outside]).toString().trim()).toBe('secret.txt')
  expect(existsSync(join(tree, 'farm7'))).toBe(false)
})

test('what git cannot hold is left out and named', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  const { tree } = workspace
  await rm(join(tree, 'README.md'))
  execFileSync('mkfifo', [join(tree, 'README.md'), join(tree, 'pipe')])
  mkdirSync(join(tree, 'sub/.GIT'), { recursive: true })
  writeFileSync(join(tree, 'sub/.GIT/config'), 'x')
  writeFileSync(join(tree, 'kept.txt'), 'kept\n')
  const sealed = await workspace.seal('x', 0)
  expect(await workspace.changedPaths(sealed.commit)).toEqual(['kept.txt'])
  expect(sealed.skipped.sort()).toEqual(['README.md', 'sub/.GIT/config'])
})

test('odd names arrive unchanged: collisions of case, unicode, line ends, option lookalikes', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  const names = [
    'Case.txt',
    'case.txt',
    '\u00e9.txt',
    'e\u0301.txt',
    'new\nline',
    'tab\there',
    '-rf',
    '--help',
    ':(glob)x',
    '\u202etxt.exe',
    '"quoted"',
    '*',
  ]
  for (const name of names) await writeFile(join(workspace.tree, name), name)
  const sealed = await workspace.seal('x', 0)
  expect((await workspace.changedPaths(sealed.commit)).sort()).toEqual([...names].sort())
  const folder = join(source.root, 'gate')
  await workspace.checkoutTo(sealed.commit, folder)
  for (const name of names) expect(await readFile(join(folder, name), 'utf8')).toBe(name)
})

test('a change larger than the limit is a disk limit before git reads it, also when the file is sparse', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  writeFileSync(join(workspace.tree, 'sparse'), '')
  truncateSync(join(workspace.tree, 'sparse'), 1_000_000_000_000)
  expect((await failureOf(workspace.checkpoint(1, 1))).reason).toBe('disk_limit')
  await rm(join(workspace.tree, 'sparse'))
  writeFileSync(join(workspace.tree, '.env'), '')
  truncateSync(join(workspace.tree, '.env'), 1_000_000_000_000)
  expect((await failureOf(workspace.checkpoint(1, 1))).reason).toBe('disk_limit')
})

test('a diff is cut at its limit and says so', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  writeFileSync(join(workspace.tree, 'line.txt'), 'x'.repeat(5_000_000))
  const { commit } = await workspace.seal('x', 0)
  const { text, truncated } = await workspace.diff(commit)
  expect([text.length, truncated]).toEqual([2 * 1024 * 1024, true])
})

test('a workspace whose folders were closed is removed all the same', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  mkdirSync(join(workspace.tree, 'a/b'), { recursive: true })
  await chmod(join(workspace.tree, 'a/b'), 0)
  await chmod(join(workspace.tree, 'a'), 0)
  await source.workspaces.remove('run_1')
  expect(existsSync(workspace.tree)).toBe(false)
})

test('an index that claims nothing changed does not hide a change', async () => {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  const path = join(workspace.tree, 'README.md')
  const stamp = execFileSync('stat', ['-c', '%.Y', path]).toString().trim()
  writeFileSync(path, '# Shoq\n')
  execFileSync('touch', ['-d', `@${stamp}`, path])
  agentGit(workspace.tree, 'update-index', '--assume-unchanged', 'README.md')
  const sealed = await workspace.seal('x', 0)
  expect(await workspace.changedPaths(sealed.commit)).toEqual(['README.md'])
})
