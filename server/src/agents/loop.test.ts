import { afterEach, expect, test } from 'vitest'
import {
  type ModelRequest,
  type ModelScript,
  type ModelServer,
  type ModelStep,
  startModelServer,
} from '../../../demo/model-server.ts'
import type { DriverContext, DriverEvent, JournalEntry } from '../domain/agent.ts'
import type { ToolOutcome } from '../domain/tool-call.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import { Secret } from '../lib/secret.ts'
import { contextOf, driverConformance, outcomeOf } from './driver-conformance.ts'
import { loopDriver } from './loop.ts'
import { modelClient } from './model-client.ts'

const servers: ModelServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()))
})

/** Waits are over at once and written down. */
function hastyClock(): Clock & { waits: number[] } {
  const waits: number[] = []
  return {
    ...systemClock,
    waits,
    now: () => systemClock.now(),
    after(ms, wake) {
      waits.push(ms)
      return systemClock.after(0, wake)
    },
  }
}

interface Bench {
  server: ModelServer
  waits: number[]
  logged: { facts: object; message: string }[]
  driver: ReturnType<typeof loopDriver>
}

async function bench(script: ModelScript, contextTokens = 100_000): Promise<Bench> {
  const server = await startModelServer({ script })
  servers.push(server)
  const provider = { baseUrl: server.url, apiKey: new Secret('sk-test') }
  const client = modelClient({
    providers: {
      openai: { kind: 'openai', ...provider },
      anthropic: { kind: 'anthropic', ...provider },
      local: { kind: 'openai-compatible', ...provider },
    },
    maxOutputTokens: 1000,
    stepTimeoutMs: 30_000,
    silenceTimeoutMs: 20_000,
    clock: systemClock,
  })
  const clock = hastyClock()
  const logged: Bench['logged'] = []
  const log = { warn: (facts: object, message: string) => void logged.push({ facts, message }) }
  const driver = loopDriver({ client, clock, random: () => 0.5, log, contextTokens })
  return { server, waits: clock.waits, logged, driver }
}

driverConformance('loop', async (steps) => {
  const script: ModelStep[] = steps.map(({ text, calls, delayMs }) => ({
    ...(text !== undefined && { text }),
    ...(calls && { calls }),
    ...(delayMs !== undefined && { delayMs }),
  }))
  const { server, driver } = await bench(script)
  return {
    driver,
    models: ['openai/gpt-5'],
    asked: () => server.requests.length,
    [Symbol.asyncDispose]: () => server.close(),
  }
})

interface Told {
  events: DriverEvent[]
  journal: JournalEntry[]
  end: DriverEvent | undefined
}

async function drive(
  { driver }: Bench,
  change: Partial<DriverContext> = {},
  outcome: (call: Parameters<typeof outcomeOf>[0]) => ToolOutcome = outcomeOf,
): Promise<Told> {
  const run = driver.start({ ...contextOf(['openai/gpt-5']), ...change })
  const events: DriverEvent[] = []
  const journal: JournalEntry[] = [...(change.journal ?? [])]
  for await (const event of run.events) {
    events.push(event)
    if (event.type === 'step.completed') {
      const { step, record, text, calls, usage } = event
      journal.push({ kind: 'step', step, iteration: change.iteration ?? 1, record, text, calls, usage })
    } else if (event.type === 'tool.requested') {
      const given = outcome(event.call)
      run.submitToolResult(event.call.id, given)
      journal.push({ kind: 'tool', step: event.step, callId: event.call.id, outcome: given })
    }
  }
  return { events, journal, end: events.at(-1) }
}

const started = ({ events }: Told) =>
  events.flatMap((event) => (event.type === 'step.started' ? [`${event.step} ${event.model}`] : []))

test('a provider that fails for a while is waited for, longer each time, and each try is logged', async () => {
  const at = await bench([{ text: 'Here I am.', fault: { kind: 'status', status: 503, times: 3 } }])
  const { end } = await drive(at)
  expect(end).toEqual({ type: 'finished', output: 'Here I am.' })
  expect(at.waits).toEqual([1000, 3000, 9000])
  expect(at.logged).toMatchObject([
    { message: 'model call failed, trying again', facts: { attempt: 1, model: 'openai/gpt-5', step: 1 } },
    { facts: { attempt: 2 } },
    { facts: { attempt: 3, reason: 'model_error', waitMs: 9000 } },
  ])
})

test('a provider that says when to come back is believed', async () => {
  const fault = { kind: 'status', status: 429, retryAfter: '20', times: 1 } as const
  const at = await bench([{ text: 'Welcome back.', fault }])
  expect((await drive(at)).end).toEqual({ type: 'finished', output: 'Welcome back.' })
  expect(at.waits).toEqual([20_000])
})

test('a provider that wants an hour of patience is given up', async () => {
  const at = await bench([{ fault: { kind: 'status', status: 429, retryAfter: '3600' } }])
  expect((await drive(at)).end).toMatchObject({ type: 'failed', reason: 'model_error', retryable: true })
  expect(at.server.requests).toHaveLength(1)
})

test('a provider that stays away ends the run after four tries', async () => {
  const at = await bench([{ fault: { kind: 'cut', after: 0 } }])
  expect((await drive(at)).end).toMatchObject({ type: 'failed', reason: 'model_error', retryable: true })
  expect(at.server.requests).toHaveLength(4)
})

test('a refused key is not tried again', async () => {
  const at = await bench([{ fault: { kind: 'status', status: 401 } }])
  expect((await drive(at)).end).toMatchObject({
    type: 'failed',
    reason: 'provider_auth_failed',
    retryable: false,
    message: 'The model provider refused the key (401): The scripted model answers 401.',
  })
  expect(at.server.requests).toHaveLength(1)
})

const FALLBACK: ModelScript = ({ model, assistantTurns }) => {
  if (model === 'gpt-5') return { fault: { kind: 'status', status: 401 } }
  return assistantTurns === 0
    ? { text: 'I take over.', reasoning: 'My turn.', calls: [{ tool: 'look', arguments: {} }] }
    : { text: 'Done by the other one.' }
}

test('the next model of the list takes over, and the run stays with it', async () => {
  const at = await bench(FALLBACK)
  const told = await drive(at, { models: ['openai/gpt-5', 'anthropic/claude'] })
  expect(told.end).toEqual({ type: 'finished', output: 'Done by the other one.' })
  expect(started(told)).toEqual(['1 openai/gpt-5', '1 anthropic/claude', '2 anthropic/claude'])
})

test('reasoning sealed by one provider is not shown to another', async () => {
  const script: ModelScript = ({ model, assistantTurns }) => {
    if (assistantTurns > 0 && model === 'gpt-5') return { fault: { kind: 'status', status: 404 } }
    return assistantTurns === 0
      ? { text: 'I look.', reasoning: 'Secret thoughts.', calls: [{ tool: 'look', arguments: {} }] }
      : { text: 'I see.' }
  }
  const at = await bench(script)
  const told = await drive(at, { models: ['openai/gpt-5', 'anthropic/claude'] })
  expect(told.end).toEqual({ type: 'finished', output: 'I see.' })
  const last = JSON.stringify(at.server.requests.at(-1)?.body)
  expect(last).toContain('look went well')
  expect(last).not.toContain('Secret thoughts')
})

const SESAME: ModelScript = ({ assistantTurns }) =>
  assistantTurns === 0
    ? {
        text: 'I say sesame.',
        reasoning: 'It is sesame.',
        calls: [{ tool: 'look', arguments: { at: 'sesame' } }],
      }
    : { text: 'I see.' }

test.each(['openai/gpt-5', 'anthropic/claude', 'local/small'])(
  'a model (%s) reads its words back without secrets, the same before a crash and after',
  async (model) => {
    const at = await bench(SESAME)
    const keeping: DriverContext['keeping'] = {
      clean: (text) => text.replaceAll('sesame', '[secret]'),
      keepCall: (call) => ({ ...call, arguments: { at: '[secret]' } }),
    }
    const change = { models: [model], keeping }
    const { journal } = await drive(at, change)
    const [, before] = at.server.requests
    await drive(at, { ...change, journal: journal.slice(0, 2), nextStep: 2 })
    const after = at.server.requests.at(-1)
    expect(at.server.requests).toHaveLength(3)
    expect(after?.body).toEqual(before?.body)
    expect(JSON.stringify(after?.body)).toContain('I say [secret].')
    expect(JSON.stringify([after?.body, journal])).not.toContain('sesame')
  },
)

test('what failed tries cost is paid with the step', async () => {
  const usage = { inputTokens: 100, outputTokens: 10, cachedTokens: 0 }
  const at = await bench([{ text: 'Hello.', usage, fault: { kind: 'cut', times: 1 } }])
  const completed = (await drive(at)).events.find((event) => event.type === 'step.completed')
  expect(completed).toMatchObject({ usageReported: false })
  expect(completed?.usage.inputTokens).toBeGreaterThan(150)
  const plain = await bench([{ text: 'Hello.', usage }])
  expect((await drive(plain)).events).toContainEqual(expect.objectContaining({ usage, usageReported: true }))
})

test('without a model there is no driver', async () => {
  const at = await bench([])
  expect((await drive(at, { models: [] })).end).toMatchObject({
    type: 'failed',
    reason: 'driver_unavailable',
  })
})

test('the worst case of a step bounds what it costs', async () => {
  const at = await bench([{ text: 'Yes.', calls: [{ tool: 'look', arguments: {} }] }, { text: 'No.' }])
  const { events } = await drive(at, { input: '漢字'.repeat(5_000), instructions: 'x'.repeat(10_000) })
  const bounds = events.flatMap((event) => (event.type === 'step.started' ? [event.worstCase] : []))
  const costs = events.flatMap((event) => (event.type === 'step.completed' ? [event.usage] : []))
  expect(bounds).toHaveLength(2)
  for (const [at, bound] of bounds.entries()) {
    expect(bound.inputTokens).toBeGreaterThan(costs[at]?.inputTokens ?? Number.NaN)
    expect(bound.outputTokens).toBe(1000)
  }
})

test('draft text comes while the model still speaks', async () => {
  const at = await bench([{ text: 'One word after the other.', fault: { kind: 'hang', after: 8 } }])
  const run = at.driver.start(contextOf(['openai/gpt-5']))
  const seen: string[] = []
  for await (const event of run.events) {
    seen.push(event.type)
    if (event.type === 'text') break // leaving ends the call that hangs
  }
  expect(seen).toEqual(['step.started', 'text'])
})

test('an answer without calls ends the run with its text', async () => {
  const at = await bench([{ text: 'Nothing to do here.' }])
  expect((await drive(at)).end).toEqual({ type: 'finished', output: 'Nothing to do here.' })
})

test('an answer that was cut off goes on in the next step', async () => {
  const at = await bench([{ text: 'Once upon', finish: 'length' }, { text: 'The end.' }])
  const told = await drive(at)
  expect(told.end).toEqual({ type: 'finished', output: 'The end.' })
  expect(at.server.requests[1]?.lastUserText).toBe(
    'Your answer was cut off at its length limit. Go on in smaller steps.',
  )
})

test('an answer that the provider withholds ends the run and is paid for', async () => {
  const usage = { inputTokens: 100, outputTokens: 10, cachedTokens: 0 }
  const at = await bench([{ text: 'I can', finish: 'content-filter', usage }])
  expect((await drive(at)).end).toMatchObject({ type: 'failed', reason: 'model_error', spent: usage })
})

test('a refused call goes back to the model, once, and a better one goes on', async () => {
  const at = await bench([
    { calls: [{ tool: 'look', arguments: '{"at": ' }] },
    { calls: [{ tool: 'finish', arguments: { summary: 'Better.' } }] },
  ])
  const told = await drive(at, {}, (call) =>
    call.malformed
      ? { ok: false, code: 'invalid_arguments', content: `Refused: ${call.malformed}` }
      : outcomeOf(call),
  )
  expect(told.end).toEqual({ type: 'finished', output: 'Better.' })
  const items = at.server.requests[1]?.body['input']
  const answers = Array.isArray(items)
    ? items.filter((item) => JSON.stringify(item).includes('call_output'))
    : []
  expect(answers).toHaveLength(1)
  expect(JSON.stringify(answers)).toContain('Refused: not a JSON object')
})

test('a finish that was refused does not end the run', async () => {
  const at = await bench([
    { calls: [{ tool: 'finish', arguments: {} }] },
    { calls: [{ tool: 'finish', arguments: { summary: 'Now.' } }] },
  ])
  const told = await drive(at, {}, (call) =>
    JSON.stringify(call.arguments) === '{}'
      ? { ok: false, code: 'invalid_arguments', content: 'summary is missing' }
      : outcomeOf(call),
  )
  expect(told.end).toEqual({ type: 'finished', output: 'Now.' })
})

test('three steps in a row without a usable call end the run, after a resume too', async () => {
  const lost: ModelStep = { text: 'Hm.', calls: [{ tool: 'launch', arguments: {} }] }
  const refuse = (): ToolOutcome => ({ ok: false, code: 'unknown_tool', content: 'There is no such tool.' })
  const at = await bench([lost, lost, lost, lost])
  const told = await drive(at, {}, refuse)
  expect(told.end).toMatchObject({ type: 'failed', reason: 'agent_error', retryable: false })
  expect(at.server.requests).toHaveLength(3)
  const again = await drive(at, contextOf(['openai/gpt-5'], told.journal), refuse)
  expect(again.events).toHaveLength(1)
  expect(again.end).toEqual(told.end)
})

test('calls that fail for other reasons are the model’s to deal with', async () => {
  const tried: ModelStep = { calls: [{ tool: 'look', arguments: {} }] }
  const at = await bench([tried, tried, tried, tried, { text: 'I give up.' }])
  const told = await drive(at, {}, () => ({ ok: false, code: 'failed', content: 'It does not exist.' }))
  expect(told.end).toEqual({ type: 'finished', output: 'I give up.' })
})

test('a long run stays within its context and still ends', async () => {
  const stepOf = (request: ModelRequest): ModelStep => {
    const seen = JSON.stringify(request.body)
    const last = Math.max(
      0,
      ...[...seen.matchAll(/"n\\?":(\d+)|look number (\d+)/g)].map((m) => Number(m[1] ?? m[2])),
    )
    if (last >= 60) return { text: 'That was long.' }
    return { text: `look number ${last + 1}`, calls: [{ tool: 'look', arguments: { n: last + 1 } }] }
  }
  const at = await bench(stepOf, 20_000)
  const told = await drive(at, {}, () => ({ ok: true, content: 'a line of output\n'.repeat(300) }))
  expect(told.end).toEqual({ type: 'finished', output: 'That was long.' })
  expect(at.server.requests).toHaveLength(61)
  for (const { body } of at.server.requests) expect(JSON.stringify(body).length).toBeLessThan(20_000 * 4)
  // The journal keeps everything.
  const kept = told.journal.filter((entry) => entry.kind === 'tool')
  expect(kept.every((entry) => entry.outcome.content.length === 5_100)).toBe(true)
})
