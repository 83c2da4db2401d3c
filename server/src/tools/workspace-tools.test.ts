import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { CommandResult } from './run-command.ts'
import { toolBench } from './tool-bench.ts'
import { workspaceTools } from './workspace-tools.ts'

const refusedWith = (code: string, words: string) => ({
  ok: false,
  code,
  content: expect.stringContaining(words),
})

test('the tools have names and schemas that can be given to any model', () => {
  const tools = workspaceTools({ root: '/nowhere', runCommand: () => Promise.reject(new Error('not run')) })
  expect(tools.map(({ definition }) => `${definition.name} ${definition.effect}`)).toEqual([
    'list_files read',
    'search read',
    'read_file read',
    'write_file workspace',
    'edit_file workspace',
    'run_command workspace',
    'finish read',
  ])
  for (const { definition } of tools) {
    expect(definition.name).toMatch(/^[a-z0-9_]{1,64}$/)
    expect(definition.inputSchema).toMatchObject({ type: 'object', additionalProperties: false })
  }
})

// list_files ------------------------------------------------------------------------------------------------

test('a listing names files and folders, and leaves out .git and what is in node_modules', async () => {
  await using bench = await toolBench({
    'README.md': '',
    'src/deep/er/still/a.ts': '',
    'node_modules/x/index.js': '',
    '.git/config': '',
  })
  await symlink('/etc', join(bench.root, 'link'))
  expect(await bench.call('list_files', {})).toEqual({
    ok: true,
    content: [
      'README.md',
      'link (symbolic link)',
      'node_modules/ (not looked into)',
      'src/',
      'src/deep/',
      'src/deep/er/ (not looked into)',
    ].join('\n'),
  })
  expect(await bench.call('list_files', { path: 'src/deep', depth: 5 })).toMatchObject({
    content: 'src/deep/er/\nsrc/deep/er/still/\nsrc/deep/er/still/a.ts',
  })
})

test('a listing ends at its cap and says so', async () => {
  const files = Object.fromEntries(Array.from({ length: 50 }, (_, at) => [`f${at}`, '']))
  await using bench = await toolBench(files, { caps: { entries: 10 } })
  const { content } = await bench.call('list_files', {})
  expect(content.split('\n')).toHaveLength(11)
  expect(content).toContain('there is more')
})

test('a name that would break the listing is quoted', async () => {
  await using bench = await toolBench({ 'a\nb': '' })
  expect(await bench.call('list_files', {})).toMatchObject({ content: '"a\\nb"' })
})

// read_file -------------------------------------------------------------------------------------------------

test('a file is read with line numbers, whole or in part', async () => {
  await using bench = await toolBench({ 'a.txt': 'one\ntwo\nthree\n' })
  expect(await bench.call('read_file', { path: 'a.txt' })).toEqual({
    ok: true,
    content: '1\tone\n2\ttwo\n3\tthree',
  })
  expect(await bench.call('read_file', { path: './a.txt', startLine: 2, endLine: 2 })).toMatchObject({
    content: '2\ttwo',
  })
  expect(await bench.call('read_file', { path: '/workspace/a.txt', startLine: 3 })).toMatchObject({
    content: '3\tthree',
  })
  expect(await bench.call('read_file', { path: 'a.txt', startLine: 9 })).toEqual(
    refusedWith('failed', 'has 3 lines'),
  )
  expect(await bench.call('read_file', { path: 'a.txt', startLine: 2, endLine: 1 })).toEqual(
    refusedWith('failed', 'before'),
  )
})

test('a long file is cut at the cap, and the rest can be asked for', async () => {
  const text = Array.from({ length: 1000 }, (_, at) => `line ${at + 1}`).join('\n')
  await using bench = await toolBench({ 'a.txt': text }, { caps: { answerChars: 200 } })
  const { content } = await bench.call('read_file', { path: 'a.txt' })
  expect(content.length).toBeLessThan(260)
  const last = Number(/\[lines 1 to (\d+) of 1000\]/.exec(content)?.[1])
  expect(
    await bench.call('read_file', { path: 'a.txt', startLine: last + 1, endLine: last + 1 }),
  ).toMatchObject({
    content: `${last + 1}\tline ${last + 1}`,
  })
})

test('what is no text is not shown', async () => {
  await using bench = await toolBench({ 'a.bin': new Uint8Array([80, 0, 1]), empty: '' })
  expect(await bench.call('read_file', { path: 'a.bin' })).toEqual(refusedWith('failed', 'binary'))
  expect(await bench.call('read_file', { path: 'empty' })).toMatchObject({ content: '(the file is empty)' })
  expect(await bench.call('read_file', { path: '.' })).toEqual(refusedWith('failed', 'is a folder'))
  expect(await bench.call('read_file', { path: 'none' })).toEqual(
    refusedWith('failed', 'none does not exist.'),
  )
  expect(await bench.call('read_file', { path: 'no/ne' })).toEqual(refusedWith('failed', 'does not exist'))
  expect(await bench.call('read_file', { path: 'empty/x' })).toEqual(refusedWith('failed', 'not a folder'))
})

// write_file, edit_file -------------------------------------------------------------------------------------

test('a file is written whole, its folders made, its mode kept, and nothing else left behind', async () => {
  const owned: string[] = []
  await using bench = await toolBench(
    { 'run.sh': '#!/bin/sh' },
    { own: async (path) => void owned.push(path) },
  )
  await chmod(join(bench.root, 'run.sh'), 0o4755)
  expect(await bench.call('write_file', { path: 'run.sh', content: 'echo' })).toEqual({
    ok: true,
    content: 'Replaced run.sh (4 bytes).',
  })
  expect((await stat(join(bench.root, 'run.sh'))).mode & 0o7777).toBe(0o755)
  expect(await bench.call('write_file', { path: 'a/b/c.txt', content: 'é' })).toEqual({
    ok: true,
    content: 'Created a/b/c.txt (2 bytes).',
  })
  expect(await readFile(join(bench.root, 'a/b/c.txt'), 'utf8')).toBe('é')
  expect((await stat(join(bench.root, 'a/b/c.txt'))).mode & 0o7777).toBe(0o644)
  expect(await readdir(join(bench.root, 'a/b'))).toEqual(['c.txt'])
  expect(owned.map((path) => path.slice(bench.root.length))).toEqual([
    expect.stringMatching(/^\/\.agentgate-/),
    '/a',
    '/a/b',
    expect.stringMatching(/^\/a\/b\/\.agentgate-/),
  ])
})

test('a write that fails leaves the old file and no other', async () => {
  const own = () => Promise.reject(new Error('cannot give it away'))
  await using bench = await toolBench({ 'a.txt': 'old' }, { own })
  await expect(bench.call('write_file', { path: 'a.txt', content: 'new' })).rejects.toThrow('give it away')
  expect(await readFile(join(bench.root, 'a.txt'), 'utf8')).toBe('old')
  expect(await readdir(bench.root)).toEqual(['a.txt'])
})

test('an edit replaces exactly one place', async () => {
  await using bench = await toolBench({ 'a.txt': 'x = 1\ny = 1\n' })
  const edit = (oldText: string, newText: string, more = {}) =>
    bench.call('edit_file', { path: 'a.txt', oldText, newText, ...more })
  expect(await edit('x = 1', 'x = $&2')).toMatchObject({ ok: true })
  expect(await readFile(join(bench.root, 'a.txt'), 'utf8')).toBe('x = $&2\ny = 1\n')
  expect(await edit('z', '')).toEqual(refusedWith('failed', 'does not stand in a.txt'))
  expect(await edit(' = ', ' := ')).toEqual(refusedWith('failed', 'stands 2 times'))
  expect(await edit('y', 'y')).toEqual(refusedWith('failed', 'the same'))
  expect(await edit('', 'y')).toEqual(refusedWith('invalid_arguments', '/oldText'))
  expect(await edit(' = ', ' := ', { replaceAll: true })).toEqual({
    ok: true,
    content: 'Replaced 2 places in a.txt.',
  })
  expect(await readFile(join(bench.root, 'a.txt'), 'utf8')).toBe('x := $&2\ny := 1\n')
})

test('an edit keeps the line ends and the byte order mark of the file', async () => {
  await using bench = await toolBench({ 'a.txt': '\ufeffone\r\ntwo\r\nthree\r\n' })
  await bench.call('edit_file', { path: 'a.txt', oldText: 'one\ntwo', newText: 'eins\nzwei' })
  expect(await readFile(join(bench.root, 'a.txt'), 'utf8')).toBe('\ufeffeins\r\nzwei\r\nthree\r\n')
})

test('a file that is not UTF-8 is not edited, since that would change more than was asked', async () => {
  await using bench = await toolBench({ 'a.txt': Buffer.from([0x61, 0xe9, 0x62]) })
  expect(await bench.call('edit_file', { path: 'a.txt', oldText: 'a', newText: 'b' })).toEqual(
    refusedWith('failed', 'not UTF-8'),
  )
})

test('files above the cap are neither written nor edited', async () => {
  await using bench = await toolBench({ 'a.txt': 'x'.repeat(101) }, { caps: { fileBytes: 100 } })
  expect(await bench.call('write_file', { path: 'b', content: 'é'.repeat(51) })).toEqual(
    refusedWith('failed', '102 bytes'),
  )
  expect(await bench.call('edit_file', { path: 'a.txt', oldText: 'x', newText: '' })).toEqual(
    refusedWith('failed', '101 bytes'),
  )
})

// run_command, finish ---------------------------------------------------------------------------------------

test.each<[Partial<CommandResult>, boolean, string]>([
  [{ outcome: 'exited', exitCode: 1, output: 'FAIL' }, true, '[exit code 1 after 1.5 s]\nFAIL'],
  [{ outcome: 'exited', exitCode: 0 }, true, '[exit code 0 after 1.5 s]\n(no output)'],
  [{ outcome: 'signaled', signal: 'SIGSEGV' }, true, '[died of SIGSEGV after 1.5 s]\n(no output)'],
  [
    { outcome: 'timed_out', truncated: true },
    false,
    '[stopped: it took longer than 7 s; a part of the output is left out]\n(no output)',
  ],
  [
    { outcome: 'refused_to_start', reason: 'No jail works.' },
    false,
    '[refused_to_start after 1.5 s] No jail works.\n(no output)',
  ],
])('a command tells how it ended: %j', async (result, ok, content) => {
  const asked: unknown[] = []
  await using bench = await toolBench(
    {},
    {
      runCommand: (command, { timeoutMs }) => {
        asked.push([command, timeoutMs])
        return Promise.resolve({
          outcome: 'exited',
          output: '',
          truncated: false,
          durationMs: 1500,
          ...result,
        })
      },
    },
  )
  expect(await bench.call('run_command', { command: 'npm test', timeoutSeconds: 7 })).toMatchObject({
    ok,
    content,
  })
  expect(asked).toEqual([['npm test', 7000]])
})

test('a flood of output is cut in the middle and made storable', async () => {
  const output = `begin\0${'x'.repeat(100_000)}end`
  await using bench = await toolBench(
    {},
    {
      runCommand: () =>
        Promise.resolve({ outcome: 'exited', exitCode: 0, output, truncated: false, durationMs: 0 }),
    },
  )
  const { content } = await bench.call('run_command', { command: 'yes' })
  expect(content.length).toBeLessThan(41_000)
  expect(content).toMatch(/begin\ufffdx[^]*characters left out[^]*xend$/)
})

test('the limits of a command are held by its schema', async () => {
  await using bench = await toolBench()
  expect(await bench.call('run_command', { command: 'x', timeoutSeconds: 601 })).toEqual(
    refusedWith('invalid_arguments', '/timeoutSeconds'),
  )
  expect(await bench.call('run_command', { command: 'a\0b' })).toEqual(refusedWith('not_allowed', 'NUL'))
})

test('a canceled call does not begin', async () => {
  await using bench = await toolBench({ a: '' })
  expect(await bench.call('list_files', {}, AbortSignal.abort())).toMatchObject({
    ok: false,
    code: 'canceled',
  })
})

test('finish wants a summary', async () => {
  await using bench = await toolBench()
  expect(await bench.call('finish', { summary: 'Done.' })).toMatchObject({ ok: true })
  expect(await bench.call('finish', {})).toEqual(refusedWith('invalid_arguments', "'summary'"))
})

test('no file stays open after many calls', async () => {
  await using bench = await toolBench({ 'a/b/c.txt': 'x' })
  await symlink('a/b', join(bench.root, 'short'))
  const calls = async () => {
    for (let at = 0; at < 20; at++) {
      await bench.call('read_file', { path: 'short/c.txt' })
      await bench.call('read_file', { path: 'short/../../..' })
      await bench.call('search', { pattern: 'x' })
      await bench.call('list_files', { depth: 9 })
      await bench.call('write_file', { path: 'short/d.txt', content: String(at) })
      await bench.call('edit_file', { path: 'short/d.txt', oldText: 'nothing', newText: '' })
    }
  }
  await calls()
  const before = (await readdir('/proc/self/fd')).length
  await calls()
  expect((await readdir('/proc/self/fd')).length).toBeLessThanOrEqual(before + 2)
})

test('a folder that may not be read is passed over', async () => {
  await using bench = await toolBench({ 'a/b.txt': 'x', 'c.txt': 'x' })
  await mkdir(join(bench.root, 'locked'), { mode: 0o000 })
  await writeFile(join(bench.root, 'd.txt'), 'x')
  expect(await bench.call('list_files', {})).toMatchObject({
    ok: true,
    content: expect.stringContaining('d.txt'),
  })
  await chmod(join(bench.root, 'locked'), 0o700)
})
