import { describe, expect, test, vi } from 'vitest'
import { AgentGate, TimeoutError } from '../src/index.ts'
import { Runs } from '../src/resources/runs.ts'
import { Transport } from '../src/transport.ts'
import { type Script, startScriptedServer } from './scripted-server.ts'

const run = (state: string, more: object = {}): Script => ({
  status: 200,
  body: { id: 'run_1', state, status: state === 'completed' ? 'succeeded' : 'running', lastSeq: 3, ...more },
})

const events = (first: number, types: string[], nextCursor: string | null = null): Script => ({
  status: 200,
  body: { data: types.map((type, index) => ({ seq: first + index, type, data: {} })), nextCursor },
})

/** Runs whose pauses take no time. */
function fastRuns(baseUrl: string) {
  const waits: number[] = []
  const settings = { apiKey: 'k', baseUrl, timeoutMs: 5_000, connectTimeoutMs: 5_000, maxRetries: 0 }
  const effects = {
    monotonic: () => performance.now(),
    random: Math.random,
    pause: async (ms: number) => void waits.push(ms),
  }
  return { runs: new Runs(new Transport({ ...settings, fetch: undefined }, effects)), waits }
}

describe('waiting for a run', () => {
  test('lets the gate hold the request and asks until the run is final', async () => {
    await using server = await startScriptedServer(
      run('queued'),
      run('running'),
      run('completed', { prUrl: 'u' }),
    )
    const { runs, waits } = fastRuns(server.url)

    await expect(runs.wait('run_1')).resolves.toMatchObject({ status: 'succeeded', prUrl: 'u', error: null })
    expect(server.seen.map((request) => request.headers.prefer)).toEqual(['wait=60', 'wait=60', 'wait=60'])
    // This server did not hold the requests: the client spaces them out by itself.
    expect(waits).toHaveLength(2)
    for (const ms of waits) expect(ms).toBeGreaterThan(500)
  })

  test.each(['tool_required', 'waiting_approval', 'failed', 'canceled'])(
    'ends when it is %s',
    async (state) => {
      await using server = await startScriptedServer(run(state))
      await expect(fastRuns(server.url).runs.wait('run_1')).resolves.toMatchObject({ state })
    },
  )

  test('ends with a TimeoutError of its own, whatever one attempt may take', async () => {
    await using server = await startScriptedServer({ hang: true })
    const client = new AgentGate({ apiKey: 'k', baseUrl: server.url })
    const wait = client.runs.wait('run_1', { timeout: 60 })
    await expect(wait).rejects.toBeInstanceOf(TimeoutError)
    await expect(wait).rejects.toThrow('still under way after 60 ms')
    expect(server.seen[0]?.headers.prefer).toBe('wait=1')
  })

  test('ends with the reason of its signal', async () => {
    await using server = await startScriptedServer({ hang: true })
    const controller = new AbortController()
    const client = new AgentGate({ apiKey: 'k', baseUrl: server.url })
    const wait = client.runs.wait('run_1', { timeout: 60_000, signal: controller.signal })
    await vi.waitUntil(() => server.seen.length === 1)
    controller.abort(new Error('the user left'))
    await expect(wait).rejects.toThrow('the user left')
  })

  test('may take for ever', async () => {
    await using server = await startScriptedServer(run('completed'))
    const { runs } = fastRuns(server.url)
    await expect(runs.wait('run_1', { timeout: Number.POSITIVE_INFINITY })).resolves.toMatchObject({
      id: 'run_1',
    })
  })

  test('passes a refusal on', async () => {
    await using server = await startScriptedServer({ status: 404 })
    await expect(fastRuns(server.url).runs.wait('run_1', { timeout: 1000 })).rejects.toMatchObject({
      status: 404,
    })
  })
})

describe('the events of a run', () => {
  test('iterate through all pages by seq', async () => {
    await using server = await startScriptedServer(
      events(1, ['run.created', 'run.started'], '2'),
      events(3, ['new.type']),
    )
    const types: string[] = []
    for await (const event of fastRuns(server.url).runs.events('run_1', { limit: 2 })) types.push(event.type)

    expect(types).toEqual(['run.created', 'run.started', 'new.type'])
    expect(server.seen.map((request) => request.path)).toEqual([
      '/v1/runs/run_1/events?limit=2',
      '/v1/runs/run_1/events?limit=2&after=2',
    ])
  })

  test('are followed until the final one', async () => {
    await using server = await startScriptedServer(
      events(1, []),
      run('queued', { lastSeq: 0 }),
      events(1, ['run.created']),
      events(2, []),
      events(2, ['run.started', 'run.completed']),
    )
    const { runs, waits } = fastRuns(server.url)
    const seqs: number[] = []
    for await (const event of runs.events('run_1', { follow: true })) seqs.push(event.seq)

    expect(seqs).toEqual([1, 2, 3])
    expect(waits).toEqual([1000, 1000, 1000])
    expect(server.seen.map((request) => request.path)).toEqual([
      '/v1/runs/run_1/events?limit=100&after=0',
      '/v1/runs/run_1',
      '/v1/runs/run_1/events?limit=100&after=0',
      '/v1/runs/run_1/events?limit=100&after=1',
      '/v1/runs/run_1/events?limit=100&after=1',
    ])
  })

  test('are not waited for behind the final one', async () => {
    await using server = await startScriptedServer(events(4, []), run('completed'))
    const seen = []
    for await (const event of fastRuns(server.url).runs.events('run_1', { after: 3, follow: true }))
      seen.push(event)
    expect(seen).toEqual([])
  })

  test('stop being followed when the signal is aborted', async () => {
    await using server = await startScriptedServer(events(1, ['run.created']))
    const controller = new AbortController()
    const client = new AgentGate({ apiKey: 'k', baseUrl: server.url })
    const follow = async () => {
      for await (const event of client.runs.events(
        'run_1',
        { follow: true },
        { signal: controller.signal },
      )) {
        controller.abort(new Error(`seen ${event.type}`))
      }
    }
    await expect(follow()).rejects.toThrow('seen run.created')
    expect(server.seen).toHaveLength(1)
  })
})
