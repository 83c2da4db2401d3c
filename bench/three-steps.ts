/**
 * Durable three-step runs per second: created over HTTP with the scripted driver and waited for in the same
 * request (`Prefer: wait`), by 1, 32 and 128 clients that each have one request under way. The load comes from
 * this process; the gateway and its PostgreSQL (fsync on) have their own, on the same cores.
 */
import { Agent, request } from 'undici'
import { startBenchGateway } from './gateway.ts'

const BODY = JSON.stringify({
  agent: 'scripted',
  input: {
    steps: [
      { text: 'one', calls: [{ tool: 'note', arguments: {} }] },
      { text: 'two', calls: [{ tool: 'note', arguments: { n: 2 } }] },
      { text: 'three' },
    ],
  },
})

export interface ThreeStepsResult {
  clients: number
  seconds: number
  runs: number
  runsPerSecond: number
  p50Ms: number
  p99Ms: number
  gatewayCpu: number
  loadCpu: number
}

const percentile = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0

export async function threeSteps({
  seconds,
  clientCounts,
  mode,
}: {
  seconds: number
  clientCounts: readonly number[]
  mode: 'live' | 'test'
}): Promise<ThreeStepsResult[]> {
  await using gateway = await startBenchGateway()
  const key = mode === 'live' ? gateway.liveKey : gateway.testKey
  const dispatcher = new Agent({ connections: Math.max(...clientCounts), pipelining: 1 })
  const once = async (): Promise<void> => {
    const { statusCode, body } = await request(`${gateway.url}/v1/runs`, {
      dispatcher,
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', prefer: 'wait=30' },
      body: BODY,
    })
    const text = await body.text()
    if (statusCode !== 201 || !text.includes('"state":"completed"')) throw new Error(`${statusCode} ${text}`)
  }
  const results: ThreeStepsResult[] = []
  for (const clients of clientCounts) {
    await measure(once, clients, 2)
    const [before, own] = [await gateway.usage(), process.cpuUsage()]
    const { latencies, elapsed } = await measure(once, clients, seconds)
    const [after, spent] = [await gateway.usage(), process.cpuUsage(own)]
    latencies.sort((a, b) => a - b)
    const cpu = after.cpu.user + after.cpu.system - before.cpu.user - before.cpu.system
    results.push({
      clients,
      seconds: elapsed,
      runs: latencies.length,
      runsPerSecond: Math.round(latencies.length / elapsed),
      p50Ms: percentile(latencies, 0.5),
      p99Ms: percentile(latencies, 0.99),
      gatewayCpu: cpu / 1e6 / elapsed,
      loadCpu: (spent.user + spent.system) / 1e6 / elapsed,
    })
  }
  await dispatcher.close()
  return results
}

async function measure(
  once: () => Promise<void>,
  clients: number,
  seconds: number,
): Promise<{ latencies: number[]; elapsed: number }> {
  const latencies: number[] = []
  const startedAt = performance.now()
  const until = startedAt + seconds * 1000
  const client = async (): Promise<void> => {
    for (let at = performance.now(); at < until; ) {
      await once()
      const end = performance.now()
      latencies.push(end - at)
      at = end
    }
  }
  await Promise.all(Array.from({ length: clients }, client))
  return { latencies, elapsed: (performance.now() - startedAt) / 1000 }
}
