/**
 * What waiting runs cost: 1,000,000 runs queued in one lane of live mode behind a full cap, beside a lane of test
 * mode that works. The cap is four runs in each mode; live mode's places are held by four runs that sleep. The
 * waiting runs are copies of one that the gateway has queued, inserted straight into the run's tables, and counted
 * in their lane.
 *
 * 32 clients send runs of one step in test mode, so that nearly all go through the queue and a claim. Measured in
 * turns, three rounds each, with a gateway of the same settings where only one run waits. Memory is proportional set
 * size (/proc/PID/smaps_rollup), after the load.
 */
import { type BenchClient, ONE_STEP, openClient, runIdOf, runToEnd } from './client.ts'
import { LIMITS, type OwnGateway, openGateway } from './gateway.ts'
import { inTurns, type Load, p50, p99, perSecond, rounded } from './load.ts'
import { processTree, pssMib } from './process-figures.ts'
import { copyRun } from './run-rows.ts'
import type { BenchOptions, Outcome, Row } from './suite.ts'

const MILLION = 1_000_000
const CAP = 4
const CLIENTS = 32
const SETTINGS = { AGENTGATE_MAX_CONCURRENT_RUNS: String(CAP) }
const SLEEPING = JSON.stringify({ agent: 'scripted', input: { steps: [{ text: 'z', delayMs: 3_600_000 }] } })

interface House extends AsyncDisposable {
  waiting: number
  gateway: OwnGateway
  /** With the test key. */
  client: BenchClient
}

export async function measureWaiting(options: BenchOptions): Promise<Outcome> {
  const houses: House[] = []
  try {
    for (const more of [0, Math.round(options.scale * MILLION)]) houses.push(await openHouse(more, options))
    const calls = Object.fromEntries(
      houses.map(({ waiting, client }) => [`${waiting}`, () => runToEnd(client, ONE_STEP)]),
    )
    const loads = await inTurns(calls, { ...options, clients: CLIENTS })
    const rows = await Promise.all(houses.map((house) => rowOf(house, loads[`${house.waiting}`])))
    const [none, many] = rows
    const ratio = rounded(Number(many?.['claimsPerSecond']) / Number(none?.['claimsPerSecond']))
    const growth = Number(many?.['gatewayMib']) - Number(none?.['gatewayMib'])
    return {
      conditions: { ...LIMITS, ...SETTINGS, clients: CLIENTS, rounds: 3 },
      tables: [{ title: 'A lane that works beside a lane that waits', rows }],
      findings: [
        `With ${Number(many?.['waitingRuns']).toLocaleString('en-GB')} runs waiting, the other lane's claims run at ${ratio} of the rate without (aim within 5 %); the gateway uses ${growth} MiB more.`,
      ],
    }
  } finally {
    for (const house of houses.reverse()) await house[Symbol.asyncDispose]()
  }
}

async function openHouse(more: number, options: BenchOptions): Promise<House> {
  const gateway = await openGateway({ ...options, settings: SETTINGS })
  const client = openClient(gateway.url, { key: gateway.testKey, connections: CLIENTS })
  const close = async (): Promise<void> => {
    await client[Symbol.asyncDispose]()
    await gateway[Symbol.asyncDispose]()
  }
  try {
    await using live = openClient(gateway.url, { key: gateway.liveKey, connections: 1 })
    for (let i = 0; i < CAP; i++) await live.post('/v1/runs', SLEEPING, { status: 201 })
    const id = runIdOf(await live.post('/v1/runs', ONE_STEP, { status: 201 }))
    await using db = await gateway.connect()
    await copyRun(db, { id, count: more, signal: options.signal })
    const [lane] = await db.query<{ queued: number }>(
      "update lane set queued = queued + $1 where mode = 'live' and queued > 0 returning queued",
      [more],
    )
    if (lane === undefined) throw new Error('The run that should wait does not.')
    return { waiting: lane.queued, gateway, client, [Symbol.asyncDispose]: close }
  } catch (error) {
    await close()
    throw error
  }
}

async function rowOf({ waiting, gateway }: House, load: Load | undefined): Promise<Row> {
  if (load === undefined) throw new Error('A house was not measured.')
  await using db = await gateway.connect()
  const [held] = await db.query<{ queued: number }>(
    "select count(*) as queued from run where state = 'queued' and mode = 'live'",
  )
  return {
    waitingRuns: held?.queued ?? waiting,
    claimsPerSecond: perSecond(load),
    p50Ms: p50(load),
    p99Ms: p99(load),
    gatewayMib: pssMib([gateway.pid]),
    postgresMib: pssMib(processTree(gateway.postmasterPid)),
  }
}
