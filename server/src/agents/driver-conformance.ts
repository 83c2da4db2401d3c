import { setImmediate } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type {
  AgentDriver,
  DriverContext,
  DriverEvent,
  DriverRun,
  JournalEntry,
  Keeping,
  ScriptStep,
} from '../domain/agent.ts'
import type { RequestedCall, ToolDefinition, ToolOutcome } from '../domain/tool-call.ts'

/** A driver whose agent makes the given steps. */
export interface DriverBench extends AsyncDisposable {
  driver: AgentDriver
  models: readonly string[]
  /** How often the agent was asked for a step so far. */
  asked(): number
}

export const toolNamed = (name: string): ToolDefinition => ({
  name,
  description: `The tool ${name}.`,
  inputSchema: { type: 'object', properties: {}, additionalProperties: true },
  effect: 'read',
  idempotent: true,
  timeoutSeconds: 10,
})

/** The context of a run of which nothing but the journal is left. */
export function contextOf(models: readonly string[], journal: readonly JournalEntry[] = []): DriverContext {
  const steps = journal.flatMap((entry) => (entry.kind === 'step' ? [entry.step] : []))
  const rounds = journal.flatMap((entry) => (entry.kind === 'feedback' ? [entry.iteration] : []))
  return {
    runId: 'run_conformance',
    mode: 'test',
    iteration: 1 + rounds.length,
    nextStep: 1 + Math.max(0, ...steps),
    instructions: 'Do as you are told.',
    input: 'Make it right.',
    tools: ['look', 'change', 'finish'].map(toolNamed),
    models,
    journal: structuredClone([...journal]),
    keeping: { clean: (text) => text, keepCall: (call) => call },
    signal: new AbortController().signal,
  }
}

export const outcomeOf = (call: RequestedCall): ToolOutcome => ({
  ok: true,
  content: `${call.name} went well`,
})

/** When the reader dies: at its n-th journal write, just before it is durable or just after. */
interface Death {
  atWrite: number
  lost: boolean
}

/** Reads a run as the gateway does: writes first, asks on after. Gives the last event, null when it died. */
async function readOut(run: DriverRun, journal: JournalEntry[], death?: Death): Promise<DriverEvent | null> {
  let writes = 0
  const dies = (entry: JournalEntry): boolean => {
    writes += 1
    if (!(death?.atWrite === writes && death.lost)) journal.push(structuredClone(entry))
    return death?.atWrite === writes
  }
  for await (const event of run.events) {
    if (event.type === 'finished' || event.type === 'failed') return event
    if (event.type === 'step.completed') {
      const { step, record, text, calls, usage } = event
      if (dies({ kind: 'step', step, iteration: 1, record, text, calls, usage })) return null
    } else if (event.type === 'tool.requested') {
      const outcome = outcomeOf(event.call)
      run.submitToolResult(event.call.id, outcome)
      if (dies({ kind: 'tool', step: event.step, callId: event.call.id, outcome })) return null
    }
  }
  throw new Error('the events ended without an end of the run')
}

const STEPS: ScriptStep[] = [
  { text: 'I look.', calls: [{ tool: 'look', arguments: { at: 'a' } }] },
  {
    text: 'Two things at once.',
    calls: [
      { tool: 'look', arguments: { at: 'b' } },
      { tool: 'change', arguments: { to: 'c' } },
    ],
  },
  { text: 'Done.', calls: [{ tool: 'finish', arguments: { summary: 'All is well.' } }] },
  { text: 'Again.', calls: [{ tool: 'change', arguments: { to: 'd' } }] },
  { text: 'Now it is right.' },
]
const FIRST_ROUND = 3
/** Steps and outcomes of the first iteration. */
const WRITES = 7

const shapeOf = (journal: readonly JournalEntry[]) =>
  journal.map((entry) => {
    if (entry.kind === 'tool') return `outcome at ${entry.step}`
    if (entry.kind === 'feedback') return 'feedback'
    return `${entry.step}: ${entry.text} ${entry.calls.map((call) => call.name).join()}`
  })

/** What every driver keeps, whatever it drives. `open` gives a driver whose agent makes the given steps. */
export function driverConformance(name: string, open: (steps: ScriptStep[]) => Promise<DriverBench>): void {
  const started = (bench: DriverBench): DriverRun => bench.driver.start(contextOf(bench.models))
  const resumed = (bench: DriverBench, journal: JournalEntry[]): DriverRun =>
    bench.driver.resume(contextOf(bench.models, journal))

  describe(`driver ${name}`, () => {
    test('a run is led from the first step to its output', async () => {
      await using bench = await open(STEPS)
      const journal: JournalEntry[] = []
      const end = await readOut(started(bench), journal)
      expect(end).toEqual({ type: 'finished', output: 'All is well.' })
      expect(shapeOf(journal)).toEqual([
        '1: I look. look',
        'outcome at 1',
        '2: Two things at once. look,change',
        'outcome at 2',
        'outcome at 2',
        '3: Done. finish',
        'outcome at 3',
      ])
      expect(bench.asked()).toBe(FIRST_ROUND)
    })

    test('after feedback the next iteration goes on where the last one ended', async () => {
      await using bench = await open(STEPS)
      const journal: JournalEntry[] = []
      await readOut(started(bench), journal)
      journal.push({ kind: 'feedback', step: 3, iteration: 2, text: 'A gate failed.' })
      const end = await readOut(resumed(bench, journal), journal)
      expect(end).toEqual({ type: 'finished', output: 'Now it is right.' })
      expect(shapeOf(journal).slice(7)).toEqual([
        'feedback',
        '4: Again. change',
        'outcome at 4',
        '5: Now it is right. ',
      ])
      expect(bench.asked()).toBe(STEPS.length)
    })

    test('a finished journal gives its output again without asking', async () => {
      await using bench = await open(STEPS)
      const journal: JournalEntry[] = []
      await readOut(started(bench), journal)
      const before = structuredClone(journal)
      expect(await readOut(resumed(bench, journal), journal)).toEqual({
        type: 'finished',
        output: 'All is well.',
      })
      expect(journal).toEqual(before)
      expect(bench.asked()).toBe(FIRST_ROUND)
    })

    for (const lost of [false, true])
      test(`killed ${lost ? 'before' : 'after'} any journal write, a run ends the same`, async () => {
        for (let atWrite = 1; atWrite <= WRITES; atWrite++) {
          await using bench = await open(STEPS)
          const whole: JournalEntry[] = []
          await readOut(started(bench), whole)
          const asked = bench.asked()

          const journal: JournalEntry[] = []
          expect(await readOut(started(bench), journal, { atWrite, lost })).toBeNull()
          const kept = structuredClone(journal)
          expect(await readOut(resumed(bench, journal), journal)).toEqual({
            type: 'finished',
            output: 'All is well.',
          })
          expect(journal.slice(0, kept.length)).toEqual(kept)
          expect(shapeOf(journal)).toEqual(shapeOf(whole))
          // Only a step whose record was lost is asked for again.
          const askedAgain = lost && whole[atWrite - 1]?.kind === 'step' ? 1 : 0
          expect(bench.asked() - asked).toBe(FIRST_ROUND + askedAgain)
        }
      })

    test('what an agent says is told without secrets, and it reads the same before a crash and after', async () => {
      await using bench = await open([
        { text: 'I say sesame.', calls: [{ tool: 'look', arguments: { at: 'sesame' } }] },
        { text: 'Sesame it was: sesame.' },
      ])
      const keeping: Keeping = {
        clean: (text) => text.replaceAll('sesame', '[secret]'),
        keepCall: (call) => ({ ...call, arguments: { at: '[secret]' }, sealed: 'sealed' }),
      }
      const journal: JournalEntry[] = []
      await readOut(bench.driver.start({ ...contextOf(bench.models), keeping }), journal, {
        atWrite: 2,
        lost: false,
      })
      expect(journal).toHaveLength(2)
      expect(journal[0]).toMatchObject({
        text: 'I say [secret].',
        calls: [{ arguments: { at: '[secret]' }, sealed: 'sealed' }],
      })
      const end = await readOut(
        bench.driver.resume({ ...contextOf(bench.models, journal), keeping }),
        journal,
      )
      expect(end).toMatchObject({ output: 'Sesame it was: [secret].' })
      expect(JSON.stringify(journal)).not.toContain('sesame')
    })

    test('nothing follows from an event before the reader asks on', async () => {
      await using bench = await open(STEPS)
      const run = started(bench)
      const events = run.events[Symbol.asyncIterator]()
      expect(await events.next()).toMatchObject({ value: { type: 'step.started', step: 1 } })
      for (let turn = 0; turn < 50; turn++) await setImmediate()
      expect(bench.asked()).toBe(0)

      let completed: DriverEvent | undefined
      while (completed?.type !== 'step.completed') completed = (await events.next()).value
      for (let turn = 0; turn < 50; turn++) await setImmediate()
      expect(bench.asked()).toBe(1)
      await run.cancel('the test is over')
    })

    test('a call goes to the reader with the id of the record, and its outcome comes back in its place', async () => {
      await using bench = await open(STEPS)
      const journal: JournalEntry[] = []
      await readOut(started(bench), journal, { atWrite: 3, lost: false })
      const recorded = journal.flatMap((entry) => (entry.kind === 'step' ? entry.calls : [])).slice(1)
      const run = resumed(bench, journal)
      const requested: RequestedCall[] = []
      for await (const event of run.events) {
        if (event.type !== 'tool.requested') break
        requested.push(event.call)
        run.submitToolResult(event.call.id, outcomeOf(event.call))
      }
      expect(requested).toEqual(recorded)
    })

    test('asking on without the outcome of a call is a broken invariant', async () => {
      await using bench = await open(STEPS)
      const events = started(bench).events[Symbol.asyncIterator]()
      let event: DriverEvent | undefined
      while (event?.type !== 'tool.requested') event = (await events.next()).value
      await expect(events.next()).rejects.toThrow('is submitted before')
    })

    for (const how of ['cancel', 'signal'] as const)
      test(`a step under way ends by ${how}`, async () => {
        await using bench = await open([{ text: 'Slow.', delayMs: 600_000 }])
        const stop = new AbortController()
        const run = bench.driver.start({ ...contextOf(bench.models), signal: stop.signal })
        const events = run.events[Symbol.asyncIterator]()
        await events.next()
        const next = events.next()
        while (bench.asked() === 0) await setImmediate()
        if (how === 'cancel') await run.cancel('nobody wants it any more')
        if (how === 'signal') stop.abort()
        expect(await next).toEqual({ done: true, value: undefined })
        expect(await events.next()).toEqual({ done: true, value: undefined })
      })

    test('a run that is canceled before it began asks nothing', async () => {
      await using bench = await open(STEPS)
      const run = started(bench)
      await run.cancel('too late')
      expect(await run.events[Symbol.asyncIterator]().next()).toEqual({ done: true, value: undefined })
      expect(bench.asked()).toBe(0)
    })
  })
}
