import { expect, test } from 'vitest'
import { type Blow, runCrashRounds } from './crash-rounds.ts'

const seed = Number(process.env['AGENTGATE_TEST_SEED'] ?? Date.now() % 1_000_000)

const SINGLE: readonly Blow[] = [
  { kind: 'point', point: 'commit.before', count: 4 },
  { kind: 'point', point: 'commit.after', count: 9 },
  { kind: 'point', point: 'delivery.sent', count: 2 },
  { kind: 'process', afterMs: 250 },
  { kind: 'terminate', afterMs: 200 },
  { kind: 'postmaster', afterMs: 300 },
  { kind: 'both', afterMs: 300 },
]

const PAIR: readonly Blow[] = [
  { kind: 'process', afterMs: 350, role: 'worker' },
  { kind: 'process', afterMs: 350, role: 'api' },
  { kind: 'backend', afterMs: 300 },
]

test.each([
  ['one process on its embedded database', 'single', SINGLE],
  ['a gateway with two workers', 'pair', PAIR],
] as const)(
  'whatever is killed, %s loses nothing and does nothing twice',
  async (_house, topology, blows) => {
    const report = await runCrashRounds({
      topology,
      leaseSeconds: 3,
      seed,
      rounds: blows.length,
      blows: (_random, round) => blows[round] ?? { kind: 'process', afterMs: 100 },
      patienceMs: 30_000,
      freezeMs: 5_000,
    })
    expect(report.problems, `seed ${seed}`).toEqual([])
    expect(report.runs).toBe(16 * blows.length)
    expect(report.rounds.some(({ resumedMs }) => resumedMs.length > 0)).toBe(true)
  },
  120_000,
)
