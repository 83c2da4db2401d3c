import { readdirSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  ANSWERED,
  type Cases,
  call,
  expectFailure,
  expectSettled,
  finish,
  startCases,
  stories,
  write,
} from '../harness/cases.ts'

const HANG = { kind: 'hang', after: 0 } as const
/** Nobody else on this machine sleeps for so long. */
const SLEEP = '86412.75'

const book = {
  silent: [write('draft.txt', 'begun\n'), { fault: HANG }],
  answering: [{ text: 'I think about it. '.repeat(400), fault: { kind: 'hang', after: 8 } as const }],
  sleeping: [write('draft.txt', 'begun\n'), call('run_command', { command: `sleep ${SLEEP}` })],
  stubborn: [
    call('run_command', { command: `trap '' TERM INT HUP; setsid sleep ${SLEEP} & sleep ${SLEEP}` }),
  ],
  overslept: [
    call('run_command', { command: `sleep ${SLEEP}`, timeoutSeconds: 1 }),
    { ...write('more.txt', 'more\n'), fault: HANG },
  ],
  pausing: [
    write('answer.txt', 'right\n'),
    call('run_command', { command: 'echo run >> runs.txt; cat runs.txt' }),
    { ...write('more.txt', 'more\n'), fault: { ...HANG, times: 1 } },
    finish('Wrote the answer.'),
  ],
  answer: [write('answer.txt', 'right\n'), finish('Wrote the answer.')],
}

const isAsleep = (): boolean =>
  readdirSync('/proc').some((pid) => {
    if (!/^\d+$/.test(pid)) return false
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`sleep\0${SLEEP}`)
    } catch {
      return false
    }
  })

/** Runs whose model has begun to answer. */
const drafted = new Set<string>()
let cases: Cases
let repository: string
beforeAll(async () => {
  cases = await startCases(stories(book), {}, { onDraft: (runId) => drafted.add(runId) })
  repository = (await cases.host()).repository
})
afterAll(() => cases[Symbol.asyncDispose]())

/** Resolves once a run has come to an event of this type, so often. */
const until = (runId: string, type: string, times = 1): Promise<void> =>
  expect
    .poll(async () => (await cases.events(runId)).filter((event) => event.type === type).length, {
      interval: 20,
      timeout: 60_000,
    })
    .toBeGreaterThanOrEqual(times)

describe('a cancel', () => {
  test('while the model says nothing stops the run, keeps what there was and charges what was done', async () => {
    const id = await cases.submit({ repository, story: 'silent' })
    await until(id, 'step.started', 2)
    const stopping = await cases.here.gate.client.runs.cancel(id)
    expect(['running', 'canceled']).toContain(stopping.state)
    expect(stopping.cancelRequestedAt).not.toBeNull()
    const run = await cases.wait(id)
    expect(run).toMatchObject({
      state: 'canceled',
      status: 'canceled',
      statusReason: 'canceled_by_user',
      error: { code: 'CANCELED_BY_USER' },
      delivery: null,
    })
    const last = (await cases.events(id)).at(-1)
    expect(last).toMatchObject({
      type: 'run.canceled',
      data: { stopped: { how: 'agreed', at: run.canceledAt } },
    })
    const artifacts = await cases.artifacts(id)
    expect(artifacts.get('changes.diff')?.text).toContain('+begun')
    expect(artifacts.has('transcript.jsonl')).toBe(true)
    expect((await cases.here.gate.client.runs.cancel(id)).state).toBe('canceled')
  })

  test('while the model answers charges what it had said, before the end is told', async () => {
    const id = await cases.submit({ repository, story: 'answering' })
    await expect.poll(() => drafted.has(id), { interval: 20, timeout: 60_000 }).toBe(true)
    await cases.here.gate.client.runs.cancel(id)
    const run = await cases.wait(id)
    expect(run).toMatchObject({ state: 'canceled', usage: { steps: 1 } })
    expect(run.usage.inputTokens).toBeGreaterThan(100)
    expect(run.usage.outputTokens).toBeGreaterThan(0)
    expect((await cases.events(id)).slice(-2).map(({ type }) => type)).toEqual([
      'step.completed',
      'run.canceled',
    ])
  })

  test('while a command runs that heeds no signal kills it, leaves no process behind and says so', async () => {
    const id = await cases.submit({ repository, story: 'stubborn' })
    await expect.poll(isAsleep, { interval: 20, timeout: 60_000 }).toBe(true)
    await cases.here.gate.client.runs.cancel(id)
    const run = await cases.wait(id)
    expect(run.state).toBe('canceled')
    expect(isAsleep()).toBe(false)
    expect((await cases.events(id)).at(-1)).toMatchObject({
      data: { stopped: { how: 'killed', at: run.canceledAt } },
    })
  })

  test('after a command that had to be killed at its own limit is still agreed', async () => {
    const id = await cases.submit({ repository, story: 'overslept' })
    await until(id, 'step.started', 2)
    await cases.here.gate.client.runs.cancel(id)
    await cases.wait(id)
    expect((await cases.events(id)).at(-1)).toMatchObject({ data: { stopped: { how: 'agreed' } } })
  })

  test('of a run that has ended otherwise is refused', async () => {
    const run = await cases.run({ repository, story: 'answer', gatePlan: 'none', delivery: { mode: 'none' } })
    await expect(cases.here.gate.client.runs.cancel(run.id)).rejects.toMatchObject({
      status: 409,
      code: 'RUN_FINISHED',
    })
  })
})

test('limit_time is told when the work has stopped and what there is of it is kept', async () => {
  const constraints = { maxDurationSeconds: 3 }
  const ends = await Promise.all(
    (['sleeping', 'silent'] as const).map(async (story) => ({
      run: await cases.run({ repository, story, constraints }),
      how: story === 'sleeping' ? 'killed' : 'agreed',
    })),
  )
  expect(isAsleep()).toBe(false)
  for (const { run, how } of ends) {
    expect((await cases.events(run.id)).at(-1)).toMatchObject({
      type: 'run.failed',
      data: { stopped: { how, at: run.completedAt } },
    })
    expectFailure(run, { reason: 'limit_time', stage: 'agent', says: /3 seconds/ })
    const artifacts = await cases.artifacts(run.id)
    expect([...artifacts.keys()].toSorted()).toEqual(['changes.diff', 'transcript.jsonl'])
    for (const { createdAt } of artifacts.values())
      expect(Date.parse(createdAt)).toBeLessThanOrEqual(Date.parse(run.completedAt ?? ''))
  }
})

describe('a retry', () => {
  test('is a new run of the same order, which mirrors it from then on', async () => {
    const { client } = cases.here.gate
    const broken = await cases.host({ credential: 'none' })
    const failed = await cases.run({ repository: broken.repository, story: 'answer', gatePlan: ANSWERED })
    expect(failed.statusReason).toBe('source_auth_failed')
    await client.gitCredentials.create({
      host: new URL(broken.repository).host,
      kind: 'token',
      use: 'publish',
      secret: broken.token,
    })
    const again = await client.runs.retry(failed.id)
    expect(again).toMatchObject({ retryOf: failed.id, workOrderId: failed.workOrderId })
    const done = await cases.wait(again.id)
    expect(done).toMatchObject({ state: 'completed', verification: 'passed' })
    const order = await client.workOrders.get(failed.workOrderId ?? '')
    expect(order).toMatchObject({
      runIds: [failed.id, again.id],
      runId: again.id,
      status: 'succeeded',
      error: null,
    })
  })

  test('of a run that is not final is refused', async () => {
    const id = await cases.submit({ repository, story: 'silent' })
    const { client } = cases.here.gate
    await expect(client.runs.retry(id)).rejects.toMatchObject({ status: 409, code: 'CONFLICT' })
    await client.runs.cancel(id)
    await cases.wait(id)
  })
})

test('a run that waits for a slot is canceled at once', async () => {
  await using narrow = await startCases(stories(book), { AGENTGATE_MAX_CONCURRENT_RUNS: '1' })
  const hosted = await narrow.host()
  const { client } = narrow.here.gate
  const first = await narrow.submit({ repository: hosted.repository, story: 'silent' })
  const second = await narrow.submit({ repository: hosted.repository, story: 'silent' })
  expect(await client.runs.get(second)).toMatchObject({
    state: 'queued',
    statusReason: 'waiting_for_capacity',
  })
  expect((await client.credits.get()).reservedCreditsCents).toBe(100)
  expect(await client.runs.cancel(second)).toMatchObject({
    state: 'canceled',
    cost: { credits: 0 },
    usage: { steps: 0 },
  })
  expect(await narrow.events(second)).toMatchObject([
    { type: 'run.created' },
    { type: 'run.canceled', data: { stopped: { how: 'never_started' } } },
  ])
  expect((await client.credits.get()).reservedCreditsCents).toBe(50)
  await client.runs.cancel(first)
  await narrow.wait(first)
  await expectSettled(narrow)
})

test('a run that nobody was free for in its time ends as queue_expired', async () => {
  await using narrow = await startCases(stories(book), { AGENTGATE_MAX_CONCURRENT_RUNS: '1' })
  const hosted = await narrow.host()
  const first = await narrow.submit({ repository: hosted.repository, story: 'silent' })
  const late = await narrow.run({ repository: hosted.repository, constraints: { maxQueueSeconds: 1 } })
  expectFailure(late, {
    reason: 'queue_expired',
    stage: 'workspace',
    says: /within 1 second/,
    retryable: true,
  })
  expect(late).toMatchObject({ cost: { credits: 0 }, timing: { startedAt: null } })
  await narrow.here.gate.client.runs.cancel(first)
  await narrow.wait(first)
  await expectSettled(narrow)
})

test('a run goes on where it was when the gateway starts again', async () => {
  const { gate, model } = cases.here
  const hosted = await cases.host()
  const before = (await gate.client.credits.get()).totalCreditsCents
  const id = await cases.submit({ repository: hosted.repository, story: 'pausing', gatePlan: ANSWERED })
  await until(id, 'step.started', 3)
  const asked = (): number =>
    model.requests.filter(({ body }) => JSON.stringify(body).includes('#pausing')).length
  await expect.poll(asked, { timeout: 60_000 }).toBe(3)

  await gate.restart()

  const run = await cases.wait(id)
  expect(run).toMatchObject({ state: 'completed', verification: 'passed', attempt: 2, usage: { steps: 4 } })
  expect(asked()).toBe(5)
  const events = await cases.events(id)
  expect(events.map(({ seq }) => seq)).toEqual(events.map((_, at) => at + 1))
  expect(events.filter(({ type }) => type === 'run.resumed')).toMatchObject([
    { data: { cause: 'handed_back' } },
  ])
  expect(hosted.host.pulls('acme', 'project')).toHaveLength(1)
  const branch = `agentgate/${id}`
  expect(await hosted.host.readFile('acme', 'project', branch, 'more.txt')).toBe('more\n')
  expect(await hosted.host.readFile('acme', 'project', branch, 'runs.txt')).toBe('run\n')
  expect((await gate.client.credits.get()).totalCreditsCents).toBe(before - run.cost.credits)
})

test('a delivery goes on where it was when the gateway starts again', async () => {
  const hosted = await cases.host()
  const pulls = '/api/v3/repos/acme/project/pulls'
  hosted.host.fail({ method: 'POST', path: pulls, delayMs: 3_600_000, times: 1 })
  const id = await cases.submit({ repository: hosted.repository, story: 'answer', gatePlan: ANSWERED })
  const isOpening = (): boolean => hosted.host.requests.some(({ path }) => path === pulls)
  await expect.poll(isOpening, { interval: 20, timeout: 60_000 }).toBe(true)

  await cases.here.gate.restart()

  const run = await cases.wait(id)
  expect(run).toMatchObject({ state: 'completed', verification: 'passed', attempt: 2, usage: { steps: 2 } })
  const [pull, ...others] = hosted.host.pulls('acme', 'project')
  expect(others).toEqual([])
  expect(pull?.url).toBe(run.prUrl)
  expect(pull?.body).toContain('answered')
  const done = (await cases.events(id)).map(({ type }) => type)
  for (const once of ['verification.passed', 'delivery.pushed', 'delivery.pull_request'])
    expect(done.filter((type) => type === once)).toHaveLength(1)
})

test('a command that was running when the gateway stopped runs again, and none is left behind', async () => {
  const id = await cases.submit({ repository, story: 'sleeping' })
  await expect.poll(isAsleep, { interval: 20, timeout: 60_000 }).toBe(true)
  await cases.here.gate.restart()
  await expect.poll(isAsleep, { interval: 20, timeout: 60_000 }).toBe(true)
  await cases.here.gate.client.runs.cancel(id)
  expect((await cases.wait(id)).state).toBe('canceled')
  expect(isAsleep()).toBe(false)
})

test('none of these runs still holds credit, and each was charged what it says', async () => {
  await expectSettled(cases)
})
