import { middleOut } from '../../lib/text.ts'

export interface GateLine {
  name: string
  level: string
  outcome: 'passed' | 'failed' | 'skipped'
  durationMs: number
}

export interface PullRequestFacts {
  prompt: string
  gates: readonly GateLine[]
  /** Added lines that look as if they held a secret. */
  likelySecrets: number
  /** Whole credits. */
  cost: { credits: number; estimated: boolean }
  runId: string
  runUrl: string
}

/** GitHub refuses bodies over 65,536 characters. */
const PROMPT_UNITS = 20_000
const GATES = 100
const NAME_UNITS = 80

/** A fence longer than any run of backticks inside, so that the text cannot end it. */
function fenced(text: string): string {
  const longest = (text.match(/`+/g) ?? []).reduce((most, run) => Math.max(most, run.length), 2)
  const fence = '`'.repeat(longest + 1)
  return `${fence}text\n${text}\n${fence}`
}

/** Text for one table cell: no markup, no mention, no second cell, no second line. */
function cell(text: string): string {
  return text
    .slice(0, NAME_UNITS)
    .replace(/[\s\p{Cc}]+/gu, ' ')
    .replace(/[\\`*_{}[\]()<>#+!|~-]/g, (mark) => `\\${mark}`)
    .replace(/@/g, '@\u200b')
}

const MARKS: Record<GateLine['outcome'], string> = {
  passed: '✅ passed',
  failed: '❌ failed',
  skipped: '⏭ skipped',
}

function gateTable(gates: readonly GateLine[]): string {
  if (gates.length === 0) return 'Nothing was there to verify this change with.'
  const rows = gates
    .slice(0, GATES)
    .map(
      (gate) =>
        `| ${cell(gate.level)} | ${cell(gate.name)} | ${MARKS[gate.outcome]} | ${(gate.durationMs / 1000).toFixed(1)} s |`,
    )
  const more = gates.length > GATES ? [`| | … and ${gates.length - GATES} more | | |`] : []
  return ['| Level | Gate | Result | Time |', '| --- | --- | --- | --- |', ...rows, ...more].join('\n')
}

const warning = (lines: number): string =>
  `⚠️ ${lines === 1 ? 'One added line looks as if it held a secret' : `${lines} added lines look as if they held secrets`}: look before you merge.`

/** What a reviewer should know, in Markdown. The prompt and the names are somebody's text and stay text. */
export function pullRequestBody(facts: PullRequestFacts): string {
  const { prompt, gates, likelySecrets, cost, runId, runUrl } = facts
  const price = `${cost.credits} ${cost.credits === 1 ? 'credit' : 'credits'}${cost.estimated ? ' (estimated)' : ''}`
  return [
    '## What was asked',
    fenced(middleOut(prompt.replace(/\r\n?/g, '\n'), PROMPT_UNITS)),
    '## Verification',
    gateTable(gates),
    ...(likelySecrets === 0 ? [] : [warning(likelySecrets)]),
    '---',
    `Run [\`${runId}\`](${encodeURI(runUrl)}) · ${price}`,
  ]
    .join('\n\n')
    .concat('\n')
}
