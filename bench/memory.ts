/**
 * What `agentgate start` takes, built, with the embedded PostgreSQL: memory as the sum of proportional set sizes
 * (/proc/PID/smaps_rollup, shared pages counted once) of the gateway and of all processes of PostgreSQL, idle five
 * seconds after a second start, and the most seen under the load of three-steps with 32 clients, sampled twice a
 * second. Start times are from spawning the program to its saying that it listens: the first on an empty folder
 * makes the database cluster, the others find it and the program built.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { makeBenchFolder } from './bench-folder.ts'
import { openClient, runToEnd, THREE_STEPS } from './client.ts'
import { LIMITS, type OwnGateway, startOwnGateway } from './gateway.ts'
import { percentile, perSecond, putLoad, rounded } from './load.ts'
import { processTree, pssMib } from './process-figures.ts'
import type { BenchOptions, Outcome, Row } from './suite.ts'

const CLIENTS = 32
const STARTS = 5
const IDLE_AFTER_MS = 5_000
const SAMPLE_MS = 500

export async function measureMemory(options: BenchOptions): Promise<Outcome> {
  await using folder = await makeBenchFolder()
  const starts: number[] = []
  for (let start = 0; start <= STARTS; start++) {
    options.signal.throwIfAborted()
    await using gateway = await startOwnGateway(folder, options)
    starts.push(gateway.startMs)
  }
  const [first = 0, ...later] = starts
  later.sort((a, b) => a - b)
  await using gateway = await startOwnGateway(folder, options)
  await pause(IDLE_AFTER_MS, undefined, { signal: options.signal })
  const idle = sample(gateway)
  const loaded = await sampleLoaded(gateway, options)
  return {
    conditions: { ...LIMITS, clients: CLIENTS, starts: STARTS },
    tables: [
      {
        title: 'Memory',
        rows: [
          { state: 'idle', ...idle },
          { state: 'loaded', ...loaded },
        ],
      },
      {
        title: 'Start',
        rows: [
          {
            firstMs: rounded(first),
            secondP50Ms: rounded(percentile(later, 0.5)),
            secondMaxMs: rounded(later.at(-1) ?? 0),
          },
        ],
      },
    ],
    findings: [
      `Idle ${idle.sumMib} MiB (aim 200). Second start ${Math.round(percentile(later, 0.5))} ms (aim 1,500).`,
    ],
  }
}

function sample({ pid, postmasterPid }: OwnGateway): {
  gatewayMib: number
  postgresMib: number
  sumMib: number
} {
  const [gatewayMib, postgresMib] = [pssMib([pid]), pssMib(processTree(postmasterPid))]
  return { gatewayMib, postgresMib, sumMib: gatewayMib + postgresMib }
}

/** The sample with the largest sum. */
async function sampleLoaded(gateway: OwnGateway, options: BenchOptions): Promise<Row> {
  await using client = openClient(gateway.url, { key: gateway.liveKey, connections: CLIENTS })
  let most = sample(gateway)
  const timer = setInterval(() => {
    const now = sample(gateway)
    if (now.sumMib > most.sumMib) most = now
  }, SAMPLE_MS)
  try {
    const load = await putLoad(() => runToEnd(client, THREE_STEPS), { ...options, clients: CLIENTS })
    return { ...most, runsPerSecond: perSecond(load) }
  } finally {
    clearInterval(timer)
  }
}
