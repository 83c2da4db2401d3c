import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { writeCommit } from './loose-object.ts'

const EMPTY_TREE = '4b825dc642cb6eb9a060e54bf8d69288fbee4904'

test.each([
  ['a first commit', [], 'Begin\n'],
  ['a merge with more to say', ['a'.repeat(40), 'b'.repeat(40)], 'Größe: 5 €\n\nAgentGate-Run: run_1\n'],
  ['a message without an end', [], 'no line end'],
])('%s is the object that git itself would make', async (_what, parents, message) => {
  const gitDir = mkdtempSync(join(tmpdir(), 'loose-object-'))
  try {
    const git = (args: string[], input = '', env: Record<string, string> = {}) =>
      execFileSync('git', ['--git-dir', gitDir, ...args], {
        input,
        env: { ...process.env, ...env },
      }).toString()
    git(['init', '-q', '--bare'])
    git(['hash-object', '-w', '-t', 'tree', '--stdin'])
    const id = await writeCommit(gitDir, { tree: EMPTY_TREE, parents, message, atSeconds: 1_700_000_000 })

    const text = git(['cat-file', 'commit', id])
    expect(git(['hash-object', '-t', 'commit', '--stdin'], text).trim()).toBe(id)
    expect(git(['cat-file', '-t', id]).trim()).toBe('commit')
    if (parents.length > 0) return
    const who = { NAME: 'AgentGate', EMAIL: 'agentgate@localhost', DATE: '@1700000000 +0000' }
    const env = Object.fromEntries(
      ['AUTHOR', 'COMMITTER'].flatMap((role) =>
        Object.entries(who).map(([what, value]) => [`GIT_${role}_${what}`, value]),
      ),
    )
    expect(git(['commit-tree', EMPTY_TREE], message, env).trim()).toBe(id)
  } finally {
    rmSync(gitDir, { recursive: true, force: true })
  }
})
