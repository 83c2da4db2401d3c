import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { storableJson } from '../lib/text.ts'
import { packFold, unpackRun } from './fold.ts'
import { EXITS, isFinal } from './lifecycle.ts'
import { eventOf, refold } from './refold.ts'
import { AT, anyHistory, lived, someFacts, stored, type Turn, take } from './run.fixture.ts'
import { apply, dueAt, type Run, summarise, unborn } from './run.ts'

const NO_TOKENS = { inputTokens: 0, outputTokens: 0, cachedTokens: 0 }

const lastOf = (turns: readonly Turn[]): Run => turns.at(-1)?.after ?? unborn(someFacts())

/** Every event of a history with the run as it was after it. */
function eventsOf(turns: readonly Turn[]) {
  return turns.flatMap(({ before, events }) => {
    let run = before
    return events.map((event) => {
      run = apply(run, event)
      return { event, after: run }
    })
  })
}

/** As the run comes back from storage. */
function restored(run: Run): Run {
  const { state, statusReason, lastSeq } = run
  const outcome = isFinal(state) ? storableJson(run.outcome) : null
  return unpackRun(JSON.parse(JSON.stringify(run.facts)), {
    state,
    statusReason,
    lastSeq,
    fold: packFold(run),
    outcome,
  })
}

const holds = (property: (turns: Turn[]) => void): void => {
  fc.assert(fc.property(anyHistory, property), { numRuns: 500 })
}

describe('whatever happens to a run', () => {
  test('its events are numbered from 1 without a gap', () => {
    holds((turns) => {
      const seqs = eventsOf(turns).map(({ event }) => event.seq)
      expect(seqs).toEqual(seqs.map((_, i) => i + 1))
      expect(lastOf(turns).lastSeq).toBe(seqs.length)
    })
  })

  test('it leaves a state only by its exits', () => {
    holds((turns) => {
      for (const { before, after } of turns) {
        if (before.state !== after.state) expect(EXITS[before.state]).toContain(after.state)
      }
    })
  })

  test('a final run never changes again', () => {
    holds((turns) => {
      for (const { before, events, refusal } of turns) {
        if (!isFinal(before.state)) continue
        expect(events).toEqual([])
        expect(refusal).toEqual({ refused: 'run_finished' })
        expect(dueAt(before)).toBeNull()
      }
    })
  })

  test('a refused command changes nothing', () => {
    holds((turns) => {
      for (const { before, after, refusal } of turns) if (refusal !== null) expect(after).toBe(before)
    })
  })

  test('it is charged whole credits, no more than it held, and holds nothing when it is final', () => {
    holds((turns) => {
      for (const { before, after } of turns) {
        expect(after.heldMicro).toBeGreaterThanOrEqual(0)
        if (!isFinal(after.state)) expect(after.chargedMicro).toBe(0)
        if (isFinal(before.state) || !isFinal(after.state)) continue
        expect(after.heldMicro).toBe(0)
        expect(after.chargedMicro).toBeLessThanOrEqual(before.heldMicro)
        expect(after.chargedMicro % 1_000_000).toBe(0)
        expect(after.outcome).not.toBeNull()
      }
    })
  })

  test('its hold never sinks before the end, and a step never starts beyond maxCredits', () => {
    holds((turns) => {
      for (const { before, after, events } of turns) {
        if (!isFinal(after.state)) expect(after.heldMicro).toBeGreaterThanOrEqual(before.heldMicro)
        const { maxCredits } = after.facts.constraints
        const starts = events.some(({ type }) => type === 'step.started')
        if (starts && maxCredits !== null && after.heldMicro > before.heldMicro) {
          expect(after.heldMicro).toBeLessThanOrEqual(maxCredits * 1_000_000)
        }
      }
    })
  })

  test('the stored events alone make the same run again', () => {
    holds((turns) => {
      const envelopes = eventsOf(turns).map(({ event, after }) => stored(after, event))
      expect(refold(lastOf(turns).facts, envelopes)).toEqual(restored(lastOf(turns)))
    })
  })

  test('storage gives back the run that it was given', () => {
    holds((turns) => {
      for (const { after } of turns) expect(restored(after)).toEqual(JSON.parse(storableJson(after)))
    })
  })

  test('a run event says how the run stood after it', () => {
    holds((turns) => {
      for (const { event, after } of eventsOf(turns)) {
        const { data } = stored(after, event)
        expect(data['runId']).toBe(after.facts.id)
        expect(data['tenantContext']).toEqual(after.facts.tenantContext)
        if (event.type.startsWith('run.')) {
          expect(data).toMatchObject(JSON.parse(storableJson(summarise(after))))
        }
      }
    })
  })

  test('failures of a gate are counted, whatever the gate is called', () => {
    holds((turns) => {
      for (const count of Object.values(lastOf(turns).gateFailures))
        expect(Number.isInteger(count)).toBe(true)
    })
  })

  test('each limit is warned of once', () => {
    holds((turns) => {
      const { warned } = lastOf(turns)
      expect(new Set(warned).size).toBe(warned.length)
    })
  })

  test('a tick before the deadline changes nothing, and one after it does', () => {
    holds((turns) => {
      const run = lastOf(turns)
      const due = dueAt(run)
      if (due === null) return
      expect(take(run, { type: 'tick', at: due - 1 }).events).toEqual([])
      const late = take(run, { type: 'tick', at: due })
      expect(late.after.state).toBe('failed')
      expect(take(late.after, { type: 'tick', at: due + 1 }).events).toEqual([])
    })
  })
})

describe('old and new events', () => {
  const run = lived(someFacts(), [
    { type: 'claim', cause: null },
    { type: 'begin_step', step: 1, model: 'none', worstCase: NO_TOKENS },
  ])
  const envelope = (type: string, data: object) => ({
    id: 'evt_1',
    type,
    createdAt: new Date(AT).toISOString(),
    mode: 'live' as const,
    runId: run.facts.id,
    seq: run.lastSeq + 1,
    data: { ...data },
  })

  test('fields that this version does not know are ignored', () => {
    const plain = envelope('message.completed', { step: 1, text: 'hello' })
    const rich = envelope('message.completed', {
      step: 1,
      text: 'hello',
      state: 'completed',
      heldMicro: 9,
      zz: [],
    })
    expect(apply(run, eventOf(rich))).toEqual(apply(run, eventOf(plain)))
  })

  test('an event of an unknown type moves the run on and changes nothing else', () => {
    const after = apply(run, eventOf(envelope('run.dreamed', { state: 'failed', heldMicro: 0 })))
    expect(after).toEqual({ ...run, lastSeq: run.lastSeq + 1 })
  })
})
