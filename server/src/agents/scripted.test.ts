import { expect, test } from 'vitest'
import type { DriverEvent, JournalEntry, Script } from '../domain/agent.ts'
import type { JsonValue } from '../domain/json.ts'
import { systemClock } from '../lib/clock.ts'
import { contextOf, driverConformance, outcomeOf, toolNamed } from './driver-conformance.ts'
import { builtInScript } from './script.ts'
import { scriptedDriver } from './scripted.ts'

driverConformance('scripted', async (steps) => {
  let asked = 0
  const counting = {
    ...systemClock,
    now: () => systemClock.now(),
    after(ms: number, wake: () => void) {
      asked += 1
      return systemClock.after(ms, wake)
    },
  }
  // Each step takes a moment, so that the clock sees every one.
  const script: Script = { steps: steps.map((step) => ({ delayMs: 1, ...step })) }
  return {
    driver: scriptedDriver(counting, () => script),
    models: [],
    asked: () => asked,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
})

async function eventsOf(input: JsonValue, script?: Script): Promise<DriverEvent[]> {
  const driver = script ? scriptedDriver(systemClock, () => script) : scriptedDriver(systemClock)
  const run = driver.start({ ...contextOf([]), input })
  const seen: DriverEvent[] = []
  for await (const event of run.events) {
    seen.push(event)
    if (event.type === 'tool.requested') run.submitToolResult(event.call.id, outcomeOf(event.call))
  }
  return seen
}

test('a script in the input is followed', async () => {
  const events = await eventsOf({ steps: [{ text: 'Hello.' }] })
  expect(events.map((event) => event.type)).toEqual(['step.started', 'text', 'step.completed', 'finished'])
  expect(events.at(-1)).toEqual({ type: 'finished', output: 'Hello.' })
})

test('a broken script in the input fails the run and says where it is broken', async () => {
  expect(await eventsOf({ steps: [{ txt: 'Hello.' }] })).toEqual([
    {
      type: 'failed',
      reason: 'agent_error',
      retryable: false,
      message: '/input/steps/0/txt is unknown; known are text, calls, delayMs, fail.',
    },
  ])
})

test('a step may fail as a model would', async () => {
  const script: Script = { steps: [{ fail: { reason: 'provider_auth_failed', message: 'No such key.' } }] }
  expect((await eventsOf('', script)).at(-1)).toEqual({
    type: 'failed',
    reason: 'provider_auth_failed',
    message: 'No such key.',
    retryable: false,
  })
})

test('a script that is used up ends with its last text', async () => {
  const script: Script = { steps: [{ text: 'I look.', calls: [{ tool: 'look', arguments: {} }] }] }
  expect((await eventsOf('', script)).at(-1)).toEqual({ type: 'finished', output: 'I look.' })
})

test('the built-in script reads the README that the listing shows, else the first file', () => {
  const listed = (content: string): JournalEntry[] => [
    {
      kind: 'step',
      step: 1,
      iteration: 1,
      record: null,
      text: '',
      calls: [{ id: 'call_1', providerId: '1', name: 'list_files', arguments: {} }],
      usage: { inputTokens: 0, outputTokens: 0, cachedTokens: 0 },
    },
    { kind: 'tool', step: 1, callId: 'call_1', outcome: { ok: true, content } },
  ]
  const tools = ['list_files', 'read_file', 'write_file', 'finish'].map(toolNamed)
  const read = (content: string) =>
    builtInScript({ runId: 'run_1', tools, journal: listed(content) }).steps[1]?.calls?.[0]?.arguments['path']

  expect(read('a.txt\nsrc/\nsrc/b.ts\nReadme.md')).toBe('Readme.md')
  expect(read('src/\nsrc/b.ts')).toBe('src/b.ts')
  expect(read('(the folder is empty)')).toBe('AGENTGATE.md')
})

test('the built-in script uses no tool that is not there', async () => {
  const events = await eventsOf('Say something.')
  expect(events.at(-1)).toMatchObject({ type: 'finished' })
  expect(events.flatMap((event) => (event.type === 'tool.requested' ? [event.call.name] : []))).toEqual([
    'finish',
  ])
})
