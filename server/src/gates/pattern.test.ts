import { expect, test } from 'vitest'
import { compileGlob, compilePattern } from './pattern.ts'

test.each([
  ['*.md', ['README.md', '.md'], ['docs/a.md', 'README.mdx']],
  ['**/*.md', ['README.md', 'docs/deep/a.md'], ['a.txt']],
  ['src/**', ['src/a', 'src/a/b'], ['src', 'lib/src/a']],
  ['.github/', ['.github/workflows/ci.yml'], ['.github', 'x/.github/a']],
  ['a/**/b', ['a/b', 'a/x/y/b'], ['a/xb', 'ab']],
  ['{a,b{c,d}}.[jt]s', ['a.js', 'bc.ts', 'bd.js'], ['b.js', 'a.xs']],
  ['[!a-c]?', ['dx'], ['ax', 'd', 'd/']],
  ['a+(b).c', ['a+(b).c'], ['ab.c', 'abbxc']],
  ['a,b\\*', ['a,b*'], ['a,bc']],
  ['x[', ['x['], ['x']],
])('the glob %s matches paths as people expect', (glob, yes, no) => {
  const compiled = compileGlob(glob)
  expect(yes.filter((path) => !compiled.test(path))).toEqual([])
  expect(no.filter((path) => compiled.test(path))).toEqual([])
})

test.each(['', '/etc/passwd', '../a', './a', 'a/../b', 'a/..', '{a', 'a}', 'x'.repeat(1001)])(
  'the glob %j is refused',
  (glob) => {
    expect(() => compileGlob(glob)).toThrow()
  },
)

test('a glob of many stars on a hostile name takes linear time', () => {
  const startedAt = performance.now()
  expect(compileGlob(`${'*a'.repeat(40)}b`).test('a'.repeat(4_000))).toBe(false)
  expect(performance.now() - startedAt).toBeLessThan(2_000)
})

test.each(['', '(', 'a(?!b)', '(a)\\1', '((a?){30}){300}'])('the pattern %j is refused', (pattern) => {
  expect(() => compilePattern(pattern)).toThrow()
})
