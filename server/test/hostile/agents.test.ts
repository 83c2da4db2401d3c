import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { ANSWER, ANSWERED, type Arena, gateOf, lackingJail, shell, startArena, use } from './arena.ts'

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

/** 20 MB of changes are allowed. */
const LIMIT_MB = 20
const MEGABYTES = (count: number, folder: string): string =>
  `mkdir -p ${folder}; for i in $(seq ${count}); do head -c 1000000 /dev/zero > ${folder}/$i || exit 9; done`
const FORK_BOMB = 'bomb() { bomb | bomb & }; bomb; sleep 60'

describe.skipIf(lackingJail !== null)('an agent that means harm', () => {
  let arena: Arena
  beforeAll(async () => {
    arena = await startArena({ AGENTGATE_DISK_LIMIT_MB: String(LIMIT_MB) })
  })
  afterAll(() => arena?.[Symbol.asyncDispose]())

  test('forks without end: the command is stopped, the run goes on', async () => {
    const seen = await arena.try({ steps: [shell(FORK_BOMB, 2), ...ANSWER], order: { gatePlan: ANSWERED } })
    expect(seen.run).toMatchObject({ state: 'completed', verification: 'passed' })
    expect(seen.outcomes[0]).toMatchObject({ ok: false, code: 'timed_out' })
  })

  test('leaves a fork bomb for the gate: it is timed out', async () => {
    const gatePlan = gateOf('sh bomb.sh', { timeoutSeconds: 2 })
    const seen = await arena.try({
      steps: [use('write_file', { path: 'bomb.sh', content: `${FORK_BOMB}\n` })],
      order: { gatePlan },
    })
    expect(seen.run).toMatchObject({ state: 'failed', statusReason: 'limit_iterations' })
    expect(seen.run.error?.details?.['gates']).toMatchObject([{ name: 'check', outcome: 'timed_out' }])
  })

  test('fills the disk in its workspace', async () => {
    const seen = await arena.try({ steps: [shell(MEGABYTES(60, 'full')), ...ANSWER], order: { gatePlan: ANSWERED } })
    console.log('DISK tree', seen.run.statusReason, seen.run.error?.message, JSON.stringify(seen.outcomes))
  })
  test('fills the disk in ignored', async () => {
    const seen = await arena.try({
      files: { '.gitignore': 'full/\n' },
      steps: [shell(MEGABYTES(60, 'full')), ...ANSWER], order: { gatePlan: ANSWERED } })
    console.log('DISK ignored', seen.run.statusReason, seen.run.error?.message, JSON.stringify(seen.outcomes))
  })
  test('fills the disk in gate', async () => {
    const seen = await arena.try({ steps: ANSWER, order: { gatePlan: gateOf(MEGABYTES(60, 'full')) } })
    console.log('DISK gate', seen.run.statusReason, seen.run.error?.message, JSON.stringify(seen.outcomes))
  })
  test('fills the disk in setup', async () => {
    const seen = await arena.try({ steps: ANSWER, order: { gatePlan: { setup: [MEGABYTES(60, 'full')], gates: [] } } })
    console.log('DISK setup', seen.run.statusReason, seen.run.error?.message, JSON.stringify(seen.outcomes))
  })
  test('writes 1GB line', async () => {
    const seen = await arena.try({ steps: [shell('truncate -s 1G line.txt'), use('read_file', { path: 'line.txt' }), use('search', { pattern: 'x' }), ...ANSWER], order: { gatePlan: ANSWERED } })
    console.log('SPARSE', seen.run.statusReason, seen.run.error?.message, JSON.stringify(seen.outcomes).slice(0, 1500))
  })
})
