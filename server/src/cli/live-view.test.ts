import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import type { RunEvent } from '../../../sdk/typescript/src/index.ts'
import { LiveView } from './live-view.ts'
import { Terminal } from './terminal.ts'

const event = (seq: number, type: string, data: object, second = seq): RunEvent =>
  ({
    id: `evt_${seq}`,
    type,
    createdAt: new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString(),
    mode: 'live',
    runId: 'run_1',
    seq,
    data: { runId: 'run_1', tenantContext: {}, ...data },
  }) as RunEvent // the data of one type, spelled out by each case

const RUN = [
  event(1, 'run.created', { statusReason: 'waiting_for_capacity' }),
  event(2, 'tool.started', { step: 1, toolCallId: 'call_1', name: 'run_command' }),
  event(3, 'tool.completed', {
    step: 1,
    toolCallId: 'call_1',
    name: 'run_command',
    durationMs: 900,
    preview: '',
  }),
  event(4, 'run.completed', { statusReason: 'completed', verification: 'passed', cost: { credits: 2 } }),
]

function show(options: { isTTY: boolean; wantsColour?: boolean; json?: boolean }): string {
  const stdout = Object.assign(new PassThrough(), { isTTY: options.isTTY, columns: 100 })
  const streams = { stdin: new PassThrough(), stdout, stderr: new PassThrough() }
  using view = new LiveView(new Terminal(streams, { wantsColour: options.wantsColour ?? true }), options)
  for (const each of RUN) view.show(each)
  return String(stdout.read())
}

test('without a terminal every event is one line', () => {
  expect(show({ isTTY: false })).toBe(
    [
      '#1 run.created waiting_for_capacity',
      '#2 tool.started run_command',
      '#3 tool.completed run_command 0.9 s',
      '#4 run.completed completed verification passed 2 credits',
      '',
    ].join('\n'),
  )
})

test('as JSON every event is its envelope on a line', () => {
  const lines = show({ isTTY: true, json: true }).trimEnd().split('\n')
  expect(lines.map((line) => JSON.parse(line))).toEqual(RUN)
})

test('a person sees facts with their time, what is being done, and colours unless they are not wanted', () => {
  const shown = show({ isTTY: true })
  expect(shown).toMatch(/#3 +2\.0 s.*tool\.completed +run_command 0\.9 s/)
  expect(shown).toMatch(/⠋ run_command \d/)
  expect(shown).not.toContain('tool.started')
  expect(shown).toContain('\u001B[32mrun.completed')
  expect(show({ isTTY: true, wantsColour: false })).not.toContain('\u001B[3')
})
