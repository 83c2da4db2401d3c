import { expect, test } from 'vitest'
import { toolBench } from './tool-bench.ts'

test('a search gives path, line number and text, in the order of the paths', async () => {
  await using bench = await toolBench({
    'b.ts': 'const x = 1\nlet y = 2\r\n',
    'a/c.py': 'x = 1',
    'node_modules/n.ts': 'const x = 9',
    '.git/g.ts': 'const x = 9',
    'image.png': new Uint8Array([0, 120, 32, 61]),
  })
  expect(await bench.call('search', { pattern: 'x = |^let y = 2$' })).toEqual({
    ok: true,
    content: 'a/c.py:1:x = 1\nb.ts:1:const x = 1\nb.ts:2:let y = 2',
  })
  expect(await bench.call('search', { pattern: 'X =', ignoreCase: true, path: 'a' })).toMatchObject({
    content: 'a/c.py:1:x = 1',
  })
  expect(await bench.call('search', { pattern: 'x', path: 'b.ts' })).toMatchObject({
    content: 'b.ts:1:const x = 1',
  })
  expect(await bench.call('search', { pattern: 'absent' })).toMatchObject({ content: '(no match)' })
  expect(await bench.call('search', { pattern: 'x', path: 'none' })).toMatchObject({
    ok: false,
    code: 'failed',
  })
})

test.each<[string, string[]]>([
  ['*.ts', ['a.ts', 'src/b.ts', 'src/deep/c.ts']],
  ['src/*.ts', ['src/b.ts']],
  ['src/**/*.ts', ['src/b.ts', 'src/deep/c.ts']],
  ['**/c.{ts,py}', ['src/deep/c.py', 'src/deep/c.ts']],
  ['?.ts', ['a.ts', 'src/b.ts', 'src/deep/c.ts']],
  ['./a.ts', ['a.ts']],
  ['a.t(s', []],
  ['{a', ['a.ts']],
])('the glob %s chooses files by name', async (glob, paths) => {
  const names = ['a.ts', 'src/b.ts', 'src/deep/c.ts', 'src/deep/c.py']
  await using bench = await toolBench(Object.fromEntries(names.map((name) => [name, 'hit'])))
  const { content } = await bench.call('search', { pattern: 'hit', glob })
  const found = content === '(no match)' ? [] : content.split('\n').map((line) => line.split(':')[0])
  expect(found).toEqual(glob === '{a' ? [] : paths)
})

test.each([
  ['(?=a)', 'invalid'],
  ['(', 'missing'],
  ['(a)\\1', 'invalid'],
  ['a{1000}', 'repeats'],
  ['(\\pL{100}){3}\\pL{100}\\pL{100}', 'repeats'],
])('the pattern %s is refused with the reason', async (pattern, reason) => {
  await using bench = await toolBench({ a: 'a' })
  const outcome = await bench.call('search', { pattern })
  expect(outcome).toMatchObject({ ok: false, code: 'failed' })
  expect(outcome.content).toContain(reason)
})

test.each(['^(a+)+$', '(a|a)*b', '(.*a){20}', '(\\pL{100}){2}x', '((a*)*)*b'])(
  'the pattern %s cannot hold up the process',
  async (pattern) => {
    await using bench = await toolBench({ evil: `${`${'a'.repeat(3_000)}!\n`.repeat(20)}` })
    let longest = 0
    let last = performance.now()
    const beat = setInterval(() => {
      longest = Math.max(longest, performance.now() - last)
      last = performance.now()
    }, 5)
    const outcome = await bench.call('search', { pattern })
    clearInterval(beat)
    expect(outcome).toMatchObject({ ok: true })
    expect(longest).toBeLessThan(2_000)
  },
)

test('a search ends at its caps and says which', async () => {
  const files = { a: 'x\n'.repeat(1000), b: 'x\n'.repeat(1000) }
  await using few = await toolBench(files)
  expect((await few.call('search', { pattern: 'x', maxResults: 3 })).content).toMatch(
    /^(a:\d:x\n){3}\(stopped after 3 matches/,
  )
  await using small = await toolBench(files, { caps: { searchBytes: 1500 } })
  expect((await small.call('search', { pattern: 'none' })).content).toContain('stopped after 1500 bytes')
  await using short = await toolBench(files, { caps: { answerChars: 50 } })
  expect((await short.call('search', { pattern: 'x' })).content.length).toBeLessThan(150)
  await using quick = await toolBench(files, { caps: { searchMs: 0 } })
  expect((await quick.call('search', { pattern: 'none' })).content).toContain('stopped after 0 ms')
})

test('a search that is canceled stops', async () => {
  await using bench = await toolBench({ a: 'aaaaaaaaaaaaaaaaaaaaaaaa\n'.repeat(80_000) })
  const stop = new AbortController()
  let looks = 0
  Object.defineProperty(stop.signal, 'aborted', { get: () => ++looks > 1_000 })
  const search = bench.call('search', { pattern: '(.*a){10}b' }, stop.signal)
  expect(await search).toMatchObject({ ok: false, code: 'canceled' })
  expect(looks).toBeLessThan(1_010)
})
