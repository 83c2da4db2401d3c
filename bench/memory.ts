/**
 * What `agentgate start` takes, built, with the embedded PostgreSQL: memory as the sum of proportional set sizes
 * (/proc/PID/smaps_rollup, shared pages counted once) of the gateway and of all processes of PostgreSQL, idle five
 * seconds after a second start, the most seen under the load of three-steps with 32 clients, and the most seen while
 * ten work orders at once are each answered with a million characters, in two rounds; sampled twice a second. Start times are from spawning the program to its saying that it listens: the first on an empty folder
 * makes the database cluster, the others find it and the program built.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { makeBenchFolder } from './bench-folder.ts'
import { openClient, runToEnd, THREE_STEPS } from './client.ts'
import { LIMITS, type OwnGateway, startOwnGateway } from './gateway.ts'
import { percentile, perSecond, putLoad, rounded } from './load.ts'
import { openProject } from './order-project.ts'
import { processTree, pssMib } from './process-figures.ts'
import type { BenchOptions, Outcome, Row } from './suite.ts'

const CLIENTS = 32
const STARTS = 5
const IDLE_AFTER_MS = 5_000
const SAMPLE_MS = 500
const LONG_ANSWERS = 10
const LONG_ANSWER = [{ text: 'A long answer. '.repeat(66_666) }]

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
  const answered = await sampleAnswered(options)
  return {
    conditions: { ...LIMITS, clients: CLIENTS, starts: STARTS, longAnswers: LONG_ANSWERS },
    tables: [
      {
        title: 'Memory',
        rows: [
          { state: 'idle', ...idle },
          { state: 'loaded', ...loaded },
          ...answered.map((most, round) => ({ state: `long answers, round ${round + 1}`, ...most })),
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

type Sample = ReturnType<typeof sample>

async function sampleLoaded(gateway: OwnGateway, options: BenchOptions): Promise<Row> {
  await using client = openClient(gateway.url, { key: gateway.liveKey, connections: CLIENTS })
  const load = putLoad(() => runToEnd(client, THREE_STEPS), { ...options, clients: CLIENTS })
  const most = await mostDuring(gateway, load)
  return { ...most, runsPerSecond: perSecond(await load) }
}

/** Of a gateway of its own, so that nothing that the load has left is counted. */
async function sampleAnswered(options: BenchOptions): Promise<Sample[]> {
  await using project = await openProject(LONG_ANSWER)
  await using folder = await makeBenchFolder()
  await using gateway = await startOwnGateway(folder, { ...options, settings: project.settings })
  const { live } = await project.open(gateway)
  const order = async (): Promise<void> => {
    const { runId } = await live.workOrders.create({
      taskPrompt: 'Tell me everything.',
      workspaceSource: { type: 'git', repository: project.repository },
    })
    await live.runs.wait(runId, { timeout: 120_000 })
  }
  const round = (): Promise<Sample> =>
    mostDuring(gateway, Promise.all(Array.from({ length: LONG_ANSWERS }, order)))
  return [await round(), await round()]
}

/** The sample with the largest sum. */
async function mostDuring(gateway: OwnGateway, work: Promise<unknown>): Promise<Sample> {
  let most = sample(gateway)
  const timer = setInterval(() => {
    const now = sample(gateway)
    if (now.sumMib > most.sumMib) most = now
  }, SAMPLE_MS)
  try {
    await work
    return most
  } finally {
    clearInterval(timer)
  }
}
