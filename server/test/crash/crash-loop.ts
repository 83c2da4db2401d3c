/**
 * The long crash suite: `npm run crash -- --rounds 200 --seed 1 --topology single|pair|orders|all`. Prints what it
 * measured; `orders` is a work order killed at each of its commits, points and moments.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { type Blow, type CrashReport, POINTS, runCrashRounds } from './crash-rounds.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '200' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    topology: { type: 'string', default: 'all' },
    lease: { type: 'string', default: '15' },
  },
})
const rounds = Number(values.rounds)
const seed = Number(values.seed)
const leaseSeconds = Number(values.lease)

const MOMENTS = ['process', 'postmaster', 'terminate', 'backend', 'both'] as const

/** Half at race points, half at random moments; one round in forty is a freeze. */
function blowOf(random: () => number, round: number): Blow {
  if (round % 40 === 39) return { kind: 'freeze', afterMs: random() * 400 }
  const point = POINTS[Math.floor(random() * POINTS.length)] ?? 'commit.after'
  const most = point.startsWith('commit') ? 20 : 4
  if (round % 2 === 0) return { kind: 'point', point, count: 1 + Math.floor(random() * most) }
  const kind = MOMENTS[Math.floor(random() * MOMENTS.length)] ?? 'process'
  return { kind, afterMs: random() * 700 }
}

const quantile = (sorted: readonly number[], q: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

function summarise(topology: string, report: CrashReport): void {
  const times = report.rounds.flatMap(({ resumedMs }) => resumedMs).sort((a, b) => a - b)
  const readies = report.rounds
    .flatMap(({ readyMs }) => (readyMs === null ? [] : [readyMs]))
    .sort((a, b) => a - b)
  const [p50, p99] = [quantile(times, 0.5), quantile(times, 0.99)]
  say(
    `${topology}: ${report.rounds.length} rounds, ${report.runs} runs, ${report.deliveries} webhooks received; ` +
      `${times.length} runs resumed, from the kill p50 ${p50} ms, p99 ${p99} ms ` +
      `(of which a process needs p50 ${quantile(readies, 0.5)} ms to start); ${report.problems.length} problems`,
  )
  for (const problem of report.problems) say(`  ${problem}`)
}

async function tryOrders(): Promise<unknown> {
  const argv = ['node_modules/vitest/vitest.mjs', 'run', 'server/test/crash/order-']
  const env = { ...process.env, AGENTGATE_SOAK: '1' }
  const [code] = await once(spawn(process.execPath, argv, { env, stdio: 'inherit' }), 'exit')
  return code
}

let failed = false
for (const topology of ['single', 'pair'] as const) {
  if (values.topology !== 'all' && values.topology !== topology) continue
  say(`${topology}: ${rounds} rounds, seed ${seed}, lease ${leaseSeconds} s`)
  const report = await runCrashRounds({
    topology,
    leaseSeconds,
    seed,
    rounds,
    blows: blowOf,
    patienceMs: 90_000,
    freezeMs: 30_000,
    onRound: ({ blow, resumedMs, nextCommitMs, readyMs, problems }, round) => {
      const slowest = Math.max(0, ...resumedMs)
      const end = problems.length === 0 ? 'kept' : 'BROKEN'
      say(
        `  ${round + 1} ${blow}: ${resumedMs.length} resumed, slowest ${slowest} ms, next commit ${nextCommitMs} ms, ready ${readyMs} ms, ${end}`,
      )
    },
  })
  summarise(topology, report)
  failed ||= report.problems.length > 0
}
if (values.topology === 'all' || values.topology === 'orders') failed ||= (await tryOrders()) !== 0
process.exitCode = failed ? 1 : 0
