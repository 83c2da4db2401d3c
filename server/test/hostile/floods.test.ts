import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { ModelScript } from '../../../demo/model-server.ts'
import { ANSWER, ANSWERED, type Arena, gateOf, lackingJail, shell, startArena, use } from './arena.ts'

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

/** 20 MB of changes are allowed. */
const LIMIT_MB = 20
const MEGABYTES = (count: number, folder: string): string =>
  `mkdir -p ${folder}; for i in $(seq ${count}); do head -c 1000000 /dev/zero > ${folder}/$i || exit 9; done`
/** What the agent is told when its workspace is full. */
const FULL = { ok: false, code: 'disk_limit', content: expect.stringContaining('more than the 21 MB') }
const FORK_BOMB = 'bomb() { bomb | bomb & }; bomb; sleep 60'

/** Streamed in small pieces. Longer answers take in proportion longer. */
const FLOOD_CHARACTERS = 100_000
const FLOOD: ModelScript = () => ({ text: 'x'.repeat(FLOOD_CHARACTERS) })

describe.skipIf(lackingJail !== null)('an agent that floods', () => {
  let arena: Arena
  beforeAll(async () => {
    arena = await startArena({ AGENTGATE_DISK_LIMIT_MB: String(LIMIT_MB) }, FLOOD)
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

  test('fills the disk with changes: the command is stopped, and the run ends as disk_limit', async () => {
    const seen = await arena.try({ steps: [shell(MEGABYTES(60, 'full')), ...ANSWER] })
    expect(seen.run).toMatchObject({ state: 'failed', statusReason: 'disk_limit', delivery: null })
    expect(seen.run.error?.message).toMatch(/more than the 21 MB/)
    expect(seen.outcomes[0]).toMatchObject(FULL)
  })

  test('fills a folder that git ignores: the command is stopped with a reason, and may be made good', async () => {
    const files = { '.gitignore': 'full/\n' }
    const order = { gatePlan: ANSWERED }
    const seen = await arena.try({
      files,
      steps: [shell(`${MEGABYTES(4_000, 'full')}; sleep 15`), shell('rm -r full'), ...ANSWER],
      order,
    })
    expect(seen.run).toMatchObject({ state: 'completed', verification: 'passed' })
    expect(seen.outcomes.slice(0, 2)).toMatchObject([FULL, { ok: true }])
    expect(await seen.deliveredPaths()).toEqual(['.gitignore', 'answer.txt'])

    const kept = await arena.try({ files, steps: [shell(MEGABYTES(60, 'full')), ...ANSWER], order })
    expect(kept.run).toMatchObject({ state: 'completed', verification: 'passed' })
    expect(kept.outcomes[0]).toMatchObject(FULL)
  })

  test('hides what it writes in files without a name: the command is stopped all the same', async () => {
    const hidden =
      'for fd in 3 4; do eval "exec $fd>f"; rm f; head -c 15000000 /dev/zero >&$fd; done; sleep 15'
    const seen = await arena.try({ steps: [shell(hidden), ...ANSWER], order: { gatePlan: ANSWERED } })
    expect(seen.run).toMatchObject({ state: 'completed', verification: 'passed' })
    expect(seen.outcomes[0]).toMatchObject(FULL)
  })

  test('reserves space without writing it: it is not given any', async () => {
    const seen = await arena.try({
      steps: [
        shell(
          'for i in $(seq 50); do fallocate -l 15M $i; fallocate -n -l 1T $i; done; du -cs [0-9]* | tail -1',
        ),
      ],
    })
    expect(seen.outcomes[0]).toMatchObject({ ok: true, content: expect.stringContaining('not supported') })
    expect(seen.outcomes[0]?.content.trim()).toMatch(/\n0\ttotal$/)
  })

  test('fills the tree of a gate: the gate fails with the reason, and its tree is gone', async () => {
    const seen = await arena.try({ steps: ANSWER, order: { gatePlan: gateOf(MEGABYTES(60, 'full')) } })
    expect(seen.run).toMatchObject({ state: 'failed', statusReason: 'limit_iterations', delivery: null })
    expect(seen.run.error?.details?.['gates']).toMatchObject([
      { name: 'check', outcome: 'failed', summary: expect.stringContaining('more than the 21 MB') },
    ])
  })

  test('fills the disk in the setup phase: the run ends as disk_limit', async () => {
    const setup = [`${MEGABYTES(4_000, 'node_modules')}; sleep 15`]
    const seen = await arena.try({ steps: ANSWER, order: { gatePlan: { setup, gates: [] } } })
    expect(seen.run).toMatchObject({ state: 'failed', statusReason: 'disk_limit', usage: { steps: 0 } })
    expect(seen.run.error).toMatchObject({
      code: 'DISK_LIMIT',
      message: expect.stringContaining('more than the 21 MB'),
      details: { stage: 'workspace' },
    })
  })

  test('makes a line of 1 GB: it is not made, and the reason is said', async () => {
    const made = shell('exec truncate -s 1G line.txt')
    const seen = await arena.try({ steps: [made, ...ANSWER], order: { gatePlan: ANSWERED } })
    expect(seen.run).toMatchObject({ state: 'completed', verification: 'passed' })
    expect(seen.outcomes[0]).toMatchObject({
      ok: false,
      code: 'disk_limit',
      content: expect.stringContaining('a file larger than the 21 MB'),
    })
  })

  test('keeps more than it may in sparse files: keeping it is disk_limit', async () => {
    const made = shell('for i in 1 2; do truncate -s 15M line$i; done')
    const seen = await arena.try({ steps: [made, use('read_file', { path: 'line1' })] })
    expect(seen.run).toMatchObject({ state: 'failed', statusReason: 'disk_limit' })
  })

  test('reads and searches a long line of a file: the answers are cut', async () => {
    const seen = await arena.try({
      steps: [
        shell("tr '\\0' x < /dev/zero | head -c 15000000 > line.txt"),
        use('read_file', { path: 'line.txt' }),
        use('search', { pattern: 'x+' }),
        shell('cat line.txt'),
      ],
    })
    expect(seen.run).toMatchObject({ state: 'completed', verification: 'none' })
    expect(seen.outcomes.map(({ content }) => content.length < 70_000)).toEqual([
      true,
      true,
      true,
      true,
      true,
    ])
    expect(seen.outcomes[3]?.content).toContain('left out')
  })

  test('prints 50 MB: the answer is cut and says so', async () => {
    const seen = await arena.try({ steps: [shell('yes flooding | head -c 50000000')] })
    expect(seen.outcomes[0]).toMatchObject({ ok: true, content: expect.stringContaining('left out') })
    expect(seen.outcomes[0]?.content.length).toBeLessThan(70_000)
  })

  test('gets more words from a model than anybody reads: the run ends, its output is an artifact', async () => {
    const delivery = { mode: 'none' } as const
    const seen = await arena.try({ live: true, order: { taskPrompt: 'Flood me.', delivery } })
    expect(seen.run).toMatchObject({ state: 'completed', statusReason: 'no_changes', output: null })
    expect(seen.artifacts.get('output.json')?.length).toBe(FLOOD_CHARACTERS + 2)
  })
})
