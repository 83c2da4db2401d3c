import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { linkSync, symlinkSync } from 'node:fs'
import { mkdir, open, readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { needsRoot } from '../../test/harness/report.ts'
import type { JsonObject } from '../domain/json.ts'
import { type ToolBench, toolBench } from './tool-bench.ts'

/** Every tool that takes a path, with arguments that would be fine for an ordinary file. */
const TOOLS: readonly [tool: string, args: JsonObject][] = [
  ['list_files', {}],
  ['search', { pattern: 'secret' }],
  ['read_file', {}],
  ['write_file', { content: 'overwritten' }],
  ['edit_file', { oldText: 'secret', newText: 'public' }],
]

async function expectHeld(bench: ToolBench, path: string): Promise<void> {
  for (const [tool, args] of TOOLS) {
    const outcome = await bench.call(tool, { ...args, path })
    expect.soft(outcome, `${tool} ${path}`).toMatchObject({ ok: false })
    expect.soft(outcome.content, `${tool} ${path}`).not.toContain('top secret')
  }
  expect(await readFile(join(bench.outside, 'secret.txt'), 'utf8')).toBe('top secret')
}

describe('a path leads nowhere but into the workspace', () => {
  test.each([
    '../outside/secret.txt',
    'src/../../outside/secret.txt',
    '/etc/passwd',
    '//etc/passwd',
    '/workspace/../outside/secret.txt',
    '/workspacex/secret.txt',
    '..',
    'src/..',
    'a\0b',
    '\0',
    'x'.repeat(300),
    'a/'.repeat(3000),
    '.git/config',
    'src/.git/config',
    '.GIT/config',
    '.git',
    '.git./config',
    '.g\u200cit/config',
    '．git/config',
    'git~1/config',
  ])('%j', async (path) => {
    await using bench = await toolBench({
      'src/a.ts': 'secret',
      '.git/config': 'secret',
      'src/.git/config': 'secret',
    })
    await expectHeld(bench, path)
  })

  test('a file whose name only looks like a way out is a file like any other', async () => {
    await using bench = await toolBench({
      '...': 'x',
      '..a': 'x',
      'a\\..\\b': 'x',
      '‥': 'x',
      é: 'x',
      '%2e%2e': 'x',
      '.gitignore': 'x',
    })
    for (const path of ['...', '..a', 'a\\..\\b', '‥', 'é', '%2e%2e', '.gitignore'])
      expect(await bench.call('read_file', { path }), path).toEqual({ ok: true, content: '1\tx' })
  })

  test('lone surrogates in a name find nothing and break nothing', async () => {
    await using bench = await toolBench()
    expect(await bench.call('read_file', { path: 'a\ud800' })).toMatchObject({
      ok: false,
      code: 'failed',
      content: 'a\ufffd does not exist.',
    })
  })
})

describe('a symbolic link', () => {
  test.each([
    ['to a file outside', '../outside/secret.txt', 'link'],
    ['to an absolute place', '/etc/passwd', 'link'],
    ['to a folder outside', '../outside', 'link/secret.txt'],
    ['to the parent of the root', 'sub/../..', 'link/outside/secret.txt'],
    ['to /proc', '/proc/self/cwd', 'link'],
    ['to itself', 'link', 'link'],
    ['to .git', '.git/config', 'link'],
  ])('%s is not followed', async (_what, target, path) => {
    await using bench = await toolBench({ 'sub/a': 'secret', '.git/config': 'secret' })
    await symlink(target, join(bench.root, 'link'))
    await expectHeld(bench, path)
  })

  test('that leads out over another link is not followed', async () => {
    await using bench = await toolBench({ 'sub/a': 'secret' })
    await symlink('../..', join(bench.root, 'sub/up'))
    await symlink('sub/up/outside', join(bench.root, 'link'))
    await expectHeld(bench, 'link/secret.txt')
  })

  test('inside the workspace is followed, and a write replaces what it leads to', async () => {
    await using bench = await toolBench({ 'src/a.ts': 'one' })
    await symlink('src', join(bench.root, 'code'))
    await symlink('../code/a.ts', join(bench.root, 'src/b.ts'))
    expect(await bench.call('read_file', { path: 'code/b.ts' })).toMatchObject({ content: '1\tone' })
    expect(await bench.call('write_file', { path: 'code/b.ts', content: 'two' })).toMatchObject({
      content: expect.stringContaining('src/a.ts'),
    })
    expect(await readFile(join(bench.root, 'src/a.ts'), 'utf8')).toBe('two')
  })

  test('is not written through to a place outside that does not exist yet', async () => {
    await using bench = await toolBench()
    await symlink('../outside/new.txt', join(bench.root, 'link'))
    expect(await bench.call('write_file', { path: 'link', content: 'x' })).toMatchObject({
      ok: false,
      code: 'not_allowed',
    })
    await expect(stat(join(bench.outside, 'new.txt'))).rejects.toThrow('ENOENT')
  })

  test('farms of links are neither listed into nor searched', async () => {
    await using bench = await toolBench({ 'a/real.txt': 'needle' })
    for (let at = 0; at < 200; at++) await symlink('..', join(bench.root, `a/up${at}`))
    const listed = await bench.call('list_files', { depth: 20 })
    expect(listed.content.split('\n')).toHaveLength(202)
    expect(await bench.call('search', { pattern: 'needle' })).toMatchObject({
      content: 'a/real.txt:1:needle',
    })
  })
})

test('a folder that is exchanged for a link while the tools work never shows or changes what is outside', async () => {
  await using bench = await toolBench({ 'dir/secret.txt': 'harmless' })
  symlinkSync(bench.outside, join(bench.root, 'trap'))
  const swapper = spawn(process.execPath, ['-e', SWAP], {
    cwd: bench.root,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(swapper.stdout, 'data')
  try {
    // Goes on until both faces of the folder were met.
    let read = 0
    let refused = 0
    for (let round = 0; round < 80 || Math.min(read, refused) === 0; round++) {
      const outcomes = await Promise.all([
        bench.call('read_file', { path: 'dir/secret.txt' }),
        bench.call('search', { pattern: 'secret|harmless' }),
        bench.call('edit_file', { path: 'dir/secret.txt', oldText: 'less', newText: 'less+' }),
        bench.call('edit_file', { path: 'dir/secret.txt', oldText: 'top', newText: 'low' }),
      ])
      for (const outcome of outcomes) expect(outcome.content).not.toContain('top secret')
      if (outcomes[0].ok) read += 1
      else refused += 1
    }
  } finally {
    swapper.kill('SIGKILL')
    await once(swapper, 'close')
  }
  expect(await readFile(join(bench.outside, 'secret.txt'), 'utf8')).toBe('top secret')
})

/** Exchanges the folder `dir` for the link `trap` and back, as fast as it can. */
const SWAP = `
  const { renameSync: move } = require('node:fs')
  console.log('swapping')
  for (;;) {
    move('dir', 'away'); move('trap', 'dir')
    move('dir', 'trap'); move('away', 'dir')
  }`

describe('what is no regular file', () => {
  test('a FIFO blocks nothing', async () => {
    await using bench = await toolBench({ 'a.txt': 'needle' })
    execFileSync('mkfifo', [join(bench.root, 'pipe')])
    await expectHeld(bench, 'pipe')
    expect(await bench.call('list_files', {})).toMatchObject({ content: 'a.txt\npipe (not a regular file)' })
    expect(await bench.call('search', { pattern: 'needle' })).toMatchObject({ content: 'a.txt:1:needle' })
  })

  test.skipIf(needsRoot('making a device'))('a device is not opened', async () => {
    await using bench = await toolBench()
    try {
      execFileSync('mknod', [join(bench.root, 'zero'), 'c', '1', '5'], { stdio: 'ignore' })
    } catch {
      return // not every container may make one
    }
    await expectHeld(bench, 'zero')
  })
})

test('a sparse gigabyte without a line end costs little memory and time', async () => {
  await using bench = await toolBench({ 'needle.txt': 'needle' })
  const big = join(bench.root, 'big.txt')
  const handle = await open(big, 'w')
  await handle.write('x'.repeat(100_000))
  await handle.close()
  await truncate(big, 2 ** 30)
  const before = process.memoryUsage.rss()
  const shown = await bench.call('read_file', { path: 'big.txt' })
  expect(shown.content.length).toBeLessThan(2_000)
  expect(await bench.call('edit_file', { path: 'big.txt', oldText: 'x', newText: 'y' })).toMatchObject({
    ok: false,
  })
  expect(await bench.call('search', { pattern: 'needle' })).toMatchObject({ content: 'needle.txt:1:needle' })
  expect(process.memoryUsage.rss() - before).toBeLessThan(150 * 2 ** 20)
})

test('a line of many megabytes is shown by its beginning', async () => {
  await using bench = await toolBench({ 'min.js': `${'y'.repeat(1_500_000)}\nlast` })
  const { content } = await bench.call('read_file', { path: 'min.js' })
  expect(content).toMatch(/^1\ty+\[… 1499000 more characters\]\n2\tlast$/)
})

test('a write to a hard link leaves the other name alone', async () => {
  await using bench = await toolBench()
  linkSync(join(bench.outside, 'secret.txt'), join(bench.root, 'linked'))
  expect(await bench.call('write_file', { path: 'linked', content: 'mine' })).toMatchObject({ ok: true })
  expect(await readFile(join(bench.outside, 'secret.txt'), 'utf8')).toBe('top secret')
})

test('a folder with very many files is listed and searched within bounds', async () => {
  await using bench = await toolBench({}, { caps: { entries: 100 } })
  await mkdir(join(bench.root, 'many'))
  await Promise.all(Array.from({ length: 500 }, (_, at) => writeFile(join(bench.root, 'many', `${at}`), 'x')))
  expect((await bench.call('list_files', {})).content.split('\n')).toHaveLength(101)
  expect((await bench.call('search', { pattern: 'x', maxResults: 50 })).content.split('\n')).toHaveLength(51)
})
