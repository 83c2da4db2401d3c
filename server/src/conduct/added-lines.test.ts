import { expect, test } from 'vitest'
import { createRedactor } from '../lib/redact.ts'
import { addedLines, linesWithSecrets } from './added-lines.ts'

const linesOf = (...diff: string[]) => [...addedLines(diff.join('\n'))]

test('added lines have their place in the new file', () => {
  const found = linesOf(
    'diff --git a/one.txt b/one.txt',
    '--- a/one.txt',
    '+++ b/one.txt',
    '@@ -1,3 +1,4 @@ head',
    ' same',
    '-gone',
    '+new',
    '+newer',
    ' end',
    '@@ -10,0 +12 @@',
    '+last',
    '\\ No newline at end of file',
  )
  expect(found).toEqual([
    { path: 'one.txt', line: 2, text: 'new' },
    { path: 'one.txt', line: 3, text: 'newer' },
    { path: 'one.txt', line: 12, text: 'last' },
  ])
})

test('a line that reads like a header is a line', () => {
  const found = linesOf('+++ b/a.txt', '@@ -0,0 +1,3 @@', '+++ b/other.txt', '+@@ -1 +1 @@', '+-- a')
  expect(found.map(({ path, text }) => [path, text])).toEqual([
    ['a.txt', '++ b/other.txt'],
    ['a.txt', '@@ -1 +1 @@'],
    ['a.txt', '-- a'],
  ])
})

test('a deletion adds nothing, and quoted names are read', () => {
  expect(linesOf('--- a/x', '+++ /dev/null', '@@ -1,2 +0,0 @@', '-a', '-b')).toEqual([])
  const found = linesOf('+++ "b/caf\\303\\251\\t\\"x\\".txt"', '@@ -0,0 +1 @@', '+hello\r')
  expect(found).toEqual([{ path: 'café\t"x".txt', line: 1, text: 'hello' }])
})

test('added lines that look as if they held a secret are counted, removed and other ones are not', () => {
  const diff = [
    'diff --git a/one.env b/one.env',
    '--- a/one.env',
    '+++ b/one.env',
    '@@ -1,2 +1,4 @@',
    '-TOKEN=q7Zk2VbX9mTf4LsW',
    '+TOKEN=Xk9Qz1Lw8Rt2Pv4M',
    ' PASSWORD=q7Zk2VbX9mTf4LsW',
    '+KEY_ID=AKIAIOSFODNN7EXAMPLE',
    '+"integrity": "sha512-9qWOMFNxxLokERcms42rU0PTLqQmVs7g5E41TI4mCOxmpFayD1rfC7XxOL55cG9MBZLFlC31BrR37myMKardwg=="',
  ].join('\n')
  expect(linesWithSecrets(diff, createRedactor({ secrets: [] }).clean)).toBe(2)
})
