import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { repairScript } from '../../../demo/repair-script.ts'
import type { GatePlan, Run } from '../../../sdk/typescript/src/index.ts'
import {
  ANSWERED,
  type Cases,
  call,
  expectFailure,
  expectSettled,
  FILES,
  finish,
  startCases,
  stories,
  write,
} from '../harness/cases.ts'
import { BROKEN_PROJECT, PROJECT_REPAIR } from '../harness/house.ts'

const command = (run: string, more: object = {}): GatePlan => ({
  gates: [{ name: 'check', level: 'L1', check: { type: 'command', run }, ...more }],
})
const withFile = (name: string, content: string) => ({ files: { ...FILES, [name]: content } })

let cases: Cases
let repository: string
beforeAll(async () => {
  const wrong = repairScript({ ...PROJECT_REPAIR, right: 'a ** b' })
  const secret = `ghp_${'0123456789abcdefghij'.repeat(2)}`
  cases = await startCases(
    stories({
      answer: [write('answer.txt', 'right\n'), finish('Wrote the answer.')],
      wrong: [write('answer.txt', 'wrong\n'), finish(), write('answer.txt', 'still wrong\n'), finish()],
      mending: [write('answer.txt', 'wrong\n'), finish(), write('answer.txt', 'right\n'), finish()],
      'wrong-edit': wrong,
      'leaking-late': [
        call('run_command', { command: `yes filler | head -c 3000000 > a.txt; echo ${secret} > z.txt` }),
        finish(),
      ],
      'leaking-binary': [
        call('run_command', { command: `printf 'a\\0\\n' > z.bin; echo ${secret} >> z.bin` }),
        finish(),
      ],
      'leaking-unseen': [
        write('.gitattributes', '* -diff\n*.txt binary\n'),
        write('z.txt', `${secret}\n`),
        finish(),
      ],
      leaking: [write('answer.txt', `right\n${secret}\n`), finish()],
    }),
  )
  repository = (await cases.host()).repository
})
afterAll(() => cases[Symbol.asyncDispose]())

const gatesOf = ({ error }: Run): unknown => error?.details?.['gates']

describe.concurrent('a gate that does not pass', () => {
  test('is told to the agent, whose next iteration is verified anew', async () => {
    const run = await cases.run({ repository, story: 'mending', gatePlan: ANSWERED })
    expect(run).toMatchObject({ state: 'completed', verification: 'passed', iterations: 2 })
    const artifacts = await cases.artifacts(run.id)
    expect([...artifacts.keys()].toSorted()).toEqual([
      'changes.diff',
      'gate-1-L1-answered.txt',
      'gate-2-L1-answered.txt',
      'transcript.jsonl',
    ])
    for (const { sha256, sizeBytes, text } of artifacts.values()) {
      expect(sha256).toBe(createHash('sha256').update(text).digest('hex'))
      expect(sizeBytes).toBe(Buffer.byteLength(text))
    }
    expect(artifacts.get('gate-1-L1-answered.txt')?.text).toContain('result: failed')
    expect(artifacts.get('transcript.jsonl')?.text).toContain('Verification failed')
    await expect(cases.here.gate.client.runs.artifacts.get(run.id, 'nothing.txt')).rejects.toMatchObject({
      status: 404,
    })
  })

  test('in the last iteration ends the run as limit_iterations, never as success', async () => {
    const { repository: broken } = await cases.host({ files: BROKEN_PROJECT })
    const run = await cases.run({ repository: broken, story: 'wrong-edit', maxIterations: 2 })
    expectFailure(run, { reason: 'limit_iterations', stage: 'verification', says: /after 2 iterations/ })
    expect(run).toMatchObject({ verification: 'failed', iterations: 2, delivery: null, prUrl: null })
    expect(gatesOf(run)).toContainEqual(expect.objectContaining({ level: 'L1', outcome: 'failed' }))
    expect((await cases.artifacts(run.id)).has('changes.diff')).toBe(true)
  })

  test('and says stop ends the run at once as verification_failed', async () => {
    const run = await cases.run({
      repository,
      story: 'wrong',
      gatePlan: command('false', { onFailure: 'stop' }),
    })
    expectFailure(run, { reason: 'verification_failed', stage: 'verification', says: /"check" failed/ })
    expect(run.iterations).toBe(1)
  })

  test('and may fail twice ends the run the second time', async () => {
    const run = await cases.run({
      repository,
      story: 'wrong',
      gatePlan: command('false', { maxAttempts: 2 }),
    })
    expectFailure(run, { reason: 'verification_failed', stage: 'verification', says: /2 of at most 2 times/ })
    expect(run.iterations).toBe(2)
  })

  test('because it hangs is timed out', async () => {
    const gatePlan = command('echo begun; sleep 1000', { timeoutSeconds: 1 })
    const run = await cases.run({ repository, story: 'answer', gatePlan, maxIterations: 1 })
    expectFailure(run, { reason: 'limit_iterations', stage: 'verification', says: /1 iteration\b/ })
    expect(gatesOf(run)).toEqual([expect.objectContaining({ name: 'check', outcome: 'timed_out' })])
  })

  test('because it floods is cut in its report', async () => {
    const gatePlan = command('yes "a long line of a flood" | head -c 30000000; false')
    const run = await cases.run({ repository, story: 'answer', gatePlan, maxIterations: 1 })
    expectFailure(run, { reason: 'limit_iterations', stage: 'verification', says: /gates still fail/ })
    const report = (await cases.artifacts(run.id)).get('gate-1-L1-check.txt')
    expect(report?.sizeBytes).toBeLessThan(100_000)
    expect(report?.text).toContain('left out')
  })

  test('because a key stands in the change keeps the key off the branch, and out of what is shown', async () => {
    const { host, repository: own } = await cases.host()
    const run = await cases.run({ repository: own, story: 'leaking', maxIterations: 1 })
    expectFailure(run, { reason: 'limit_iterations', stage: 'verification', says: /gates still fail/ })
    expect(gatesOf(run)).toContainEqual(expect.objectContaining({ name: 'secrets', outcome: 'failed' }))
    expect(await host.head('acme', 'project', `agentgate/${run.id}`)).toBeUndefined()
    const shown = [run, await cases.events(run.id), ...(await cases.artifacts(run.id)).values()]
    expect(JSON.stringify(shown)).not.toContain('ghp_0123')
    expect(JSON.stringify(shown)).toContain('+[secret]')
  })
})

test.concurrent.each(['leaking-late', 'leaking-binary', 'leaking-unseen'])(
  'a key is found wherever it hides in the change (%s)',
  async (story) => {
    const run = await cases.run({ repository, story, maxIterations: 1 })
    expectFailure(run, { reason: 'limit_iterations', stage: 'verification', says: /gates still fail/ })
    expect(gatesOf(run)).toContainEqual(expect.objectContaining({ name: 'secrets', outcome: 'failed' }))
  },
)

describe.concurrent('a plan', () => {
  test('that is strict fails where nothing can be run', async () => {
    const run = await cases.run({ repository, story: 'answer', gatePlan: 'strict' })
    expectFailure(run, { reason: 'verification_failed', stage: 'verification', says: /give a gate plan/ })
  })

  test('that finds nothing to run is an honest none', async () => {
    const run = await cases.run({ repository, story: 'answer' })
    expect(run).toMatchObject({ state: 'completed', verification: 'none' })
  })

  test('of none runs nothing', async () => {
    const run = await cases.run({ repository, story: 'answer', gatePlan: 'none' })
    expect(run).toMatchObject({ state: 'completed', verification: 'none' })
    expect([...(await cases.artifacts(run.id)).keys()].filter((name) => name.startsWith('gate-'))).toEqual([])
  })

  test('in verify.yaml of the repository is what counts', async () => {
    const plan =
      'gates:\n  - {name: mine, level: L1, check: {type: command, run: grep -q right answer.txt}}\n'
    const { repository: own } = await cases.host(withFile('verify.yaml', plan))
    const run = await cases.run({ repository: own, story: 'answer' })
    expect(run).toMatchObject({ state: 'completed', verification: 'passed' })
    expect([...(await cases.artifacts(run.id)).keys()]).toContain('gate-1-L1-mine.txt')
  })

  test('in verify.yaml that cannot be read is gate_error, before the agent has cost anything', async () => {
    const { repository: own } = await cases.host(withFile('verify.yaml', 'gates: [{name: x, colour: red}]\n'))
    const run = await cases.run({ repository: own, story: 'answer' })
    expectFailure(run, { reason: 'gate_error', stage: 'verification', says: /verify\.yaml.*colour/s })
    expect(run.usage.steps).toBe(0)
  })

  test('whose setup is installed before the agent begins, and again for the gates', async () => {
    const gates = [
      { name: 'tool', level: 'L1', check: { type: 'command', run: 'test -f tool/here' } },
    ] as const
    const gatePlan: GatePlan = { setup: ['mkdir -p tool && touch tool/here && echo made'], gates: [...gates] }
    const run = await cases.run({ repository, story: 'answer', gatePlan })
    expect(run).toMatchObject({ state: 'completed', verification: 'passed' })
    const ready = (await cases.events(run.id)).find(({ type }) => type === 'workspace.ready')
    expect(ready?.data).toMatchObject({
      setup: [{ command: expect.stringContaining('mkdir'), durationMs: expect.any(Number) }],
    })
    const artifacts = await cases.artifacts(run.id)
    expect(artifacts.get('setup.log')?.text).toContain('made')
    expect(artifacts.get('changes.diff')?.text).not.toContain('tool/here')
  })

  test('whose setup fails is workspace_failed, with what it printed', async () => {
    const gatePlan: GatePlan = { setup: ['echo no such package; exit 3'], gates: [...ANSWERED.gates] }
    const run = await cases.run({ repository, story: 'answer', gatePlan })
    expectFailure(run, { reason: 'workspace_failed', stage: 'workspace', says: /exit code 3/ })
    expect(run.error?.details?.['output']).toContain('no such package')
    expect((await cases.artifacts(run.id)).get('setup.log')?.text).toContain('no such package')
    expect(run.usage.steps).toBe(0)
  })
})

test('none of these runs still holds credit, and each was charged what it says', async () => {
  await expectSettled(cases)
})
