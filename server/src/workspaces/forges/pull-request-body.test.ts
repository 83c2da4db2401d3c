import fc from 'fast-check'
import { expect, test } from 'vitest'
import { pullRequestBody } from './pull-request-body.ts'

const FACTS = {
  prompt: 'Make the failing test pass',
  gates: [{ name: 'npm test', level: 'L1', outcome: 'passed' as const, durationMs: 1234 }],
  likelySecrets: 0,
  cost: { credits: 12, estimated: false },
  runId: 'run_1',
  runUrl: 'https://gate.example/v1/runs/run_1',
}

test('a pull request says what was asked, what was verified and what it cost', () => {
  expect(pullRequestBody(FACTS)).toBe(`## What was asked

\`\`\`text
Make the failing test pass
\`\`\`

## Verification

| Level | Gate | Result | Time |
| --- | --- | --- | --- |
| L1 | npm test | ✅ passed | 1.2 s |

---

Run [\`run_1\`](https://gate.example/v1/runs/run_1) · 12 credits
`)
})

test('lines that may hold a secret are pointed out', () => {
  expect(pullRequestBody({ ...FACTS, likelySecrets: 1 })).toContain(
    '⚠️ One added line looks as if it held a secret: look before you merge.',
  )
  expect(pullRequestBody({ ...FACTS, likelySecrets: 3 })).toContain('⚠️ 3 added lines look')
})

test('a change that nothing verified says so', () => {
  expect(pullRequestBody({ ...FACTS, gates: [] })).toContain('Nothing was there to verify this change with.')
})

/** The lines of the prompt's block: CommonMark ends it at the first line of at least as many backticks. */
function promptBlock(body: string): string {
  const lines = body.split('\n')
  const start = lines.findIndex((line) => /^`{3,}text$/.test(line))
  const fence = lines[start]?.replace('text', '') ?? ''
  const length = lines
    .slice(start + 1)
    .findIndex((line) => /^ {0,3}`{3,}[ \t]*$/.test(line) && line.trim().length >= fence.length)
  return lines.slice(start + 1, start + 1 + length).join('\n')
}

test('a prompt cannot end its block, whatever it says', () => {
  const hostile = fc.array(
    fc.constantFrom(
      '```',
      '`````',
      '~~~',
      '\n',
      '\r',
      '\r\n',
      '\u2028',
      '## Approved',
      '@team',
      '<img src=x>',
      'text',
      ' ',
    ),
  )
  fc.assert(
    fc.property(hostile, (pieces) => {
      const prompt = pieces.join('')
      expect(promptBlock(pullRequestBody({ ...FACTS, prompt }))).toBe(prompt.replace(/\r\n?/g, '\n'))
    }),
  )
})

test('a gate name stays in its cell and mentions nobody', () => {
  const body = pullRequestBody({
    ...FACTS,
    gates: [
      {
        name: 'x | ok |\n| L9 | [click](http://evil) @team <b>',
        level: 'L1',
        outcome: 'failed',
        durationMs: 0,
      },
    ],
  })
  const row = body.split('\n').find((line) => line.startsWith('| L1'))
  expect(row?.match(/(?<!\\)\|/g)).toHaveLength(5)
  expect(row).not.toMatch(/@team|(?<!\\)[[<]/)
})

test('a body stays below what a forge takes, however long prompt and gates are', () => {
  const gate = { name: '`'.repeat(500), level: 'L1', outcome: 'skipped' as const, durationMs: 0 }
  const body = pullRequestBody({
    ...FACTS,
    prompt: '`'.repeat(100_000),
    gates: Array.from({ length: 500 }, () => gate),
  })
  expect(body.length).toBeLessThan(65_536)
})
