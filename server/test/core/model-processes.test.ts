/**
 * Random requests at two gateways, real processes on one database, against a small reference: what was acknowledged
 * is there, stays as it was, and happened once, whichever process answers and whichever is killed.
 * `AGENTGATE_TEST_MODEL_STEPS=100000` is the long version.
 */
import { expect, test } from 'vitest'
import { seeded } from '../crash/crash-rounds.ts'
import { Gateways } from '../harness/gateways.ts'
import { findingsOf } from './engine-room.ts'
import { RandomRequests } from './random-requests.ts'

const CAP = 4
const CREDITS = 50
const SETTINGS = {
  AGENTGATE_SLOTS: '3',
  AGENTGATE_MAX_CONCURRENT_RUNS: String(CAP),
  AGENTGATE_INITIAL_CREDITS: String(CREDITS),
}

const STEPS = Number(process.env['AGENTGATE_TEST_MODEL_STEPS'] ?? 120)
const SEED = Number(process.env['AGENTGATE_TEST_SEED'] ?? Date.now() % 1_000_000)

test(
  `any ${STEPS} requests at two gateways leave what a small reference says (seed ${SEED})`,
  async () => {
    await using gateways = await Gateways.open(2, SETTINGS)
    const history: string[] = []
    try {
      const requests = new RandomRequests(gateways, { random: seeded(SEED), cap: CAP, credits: CREDITS })
      for (let i = 0; i < STEPS; i++) {
        history.push(await requests.step())
        if (i % 1_000 === 999) expect(await findingsOf(gateways.database)).toEqual([])
      }
      await requests.reference.finish()
    } catch (error) {
      const last = history.slice(-20).join(', ')
      throw new Error(`seed ${SEED}, request ${history.length}: … ${last}`, { cause: error })
    }
    expect(history.join()).toMatch(/create.*cancel/)
  },
  60_000 + STEPS * 200,
)
