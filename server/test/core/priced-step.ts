import type { WorkCommand } from '../../src/domain/command.ts'
import type { Performer } from '../../src/domain/performer.ts'
import type { Run } from '../../src/domain/run.ts'

/** Of one credit. */
export const MICRO = 1_000_000

/** A thousand tokens of output are one credit; nothing else costs anything. */
export const PRICES = {
  models: { m: { input: 0, output: MICRO, cached: 0 } },
  unpriced: { input: 0, output: 0, cached: 0 },
  perMinute: 0,
}

/** What costs so many credits. */
export const tokens = (credits: number) => ({
  inputTokens: 0,
  outputTokens: credits * 1_000,
  cachedTokens: 0,
})

/** The end of a step that cost so many credits. */
export const endOf = (step: number, credits: number): WorkCommand => ({
  type: 'end_step',
  step,
  model: 'm',
  usage: tokens(credits),
  usageReported: true,
  text: '',
  calls: [],
})

const complete = { type: 'complete', reason: 'completed', output: null, delivery: null } as const

/** Ends a run after one step, which may cost so many credits at most, and costs so many. */
export const costing = (of: (run: Run) => { most: number; cost: number }): Performer => ({
  resumePoint: async (run) => run.begunStep,
  async perform(held) {
    const step = held.run.begunStep + 1
    const { most, cost } = of(held.run)
    await held.send({ type: 'begin_step', step, model: 'm', worstCase: tokens(most) })
    await held.send(endOf(step, cost))
    await held.send(complete)
  },
})
