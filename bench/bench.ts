/** `npm run bench -- NAME… [--seconds N] [--scale N] [--orders N] [--cpu-prof DIR]`: measures, prints, and keeps the results. */
import { parseArgs } from 'node:util'
import { measureFloor } from './floor.ts'
import { measureHistory } from './history.ts'
import { describeMachine } from './machine.ts'
import { measureMemory } from './memory.ts'
import { measureOrders } from './orders.ts'
import { measureProcesses } from './processes.ts'
import { printProfiles } from './profile.ts'
import { keepResult, printOutcome } from './report.ts'
import { measureSoak } from './soak.ts'
import type { BenchOptions, Measure } from './suite.ts'
import { measureThreeSteps } from './three-steps.ts'
import { measureWaiting } from './waiting.ts'

const MEASURES: Readonly<Record<string, Measure>> = {
  'three-steps': measureThreeSteps,
  floor: measureFloor,
  history: measureHistory,
  waiting: measureWaiting,
  processes: measureProcesses,
  memory: measureMemory,
  orders: measureOrders,
  soak: measureSoak,
}

const USAGE = `npm run bench -- NAME… [--seconds N] [--scale N] [--orders N] [--cpu-prof DIR]
  NAME           ${Object.keys(MEASURES).join(', ')}, or all
  --seconds N    length of one measurement (10)
  --scale N      millions of rows behind history and waiting (1); 10 measures 10,000,000 too
  --orders N     work orders of soak (200)
  --cpu-prof DIR gateways leave CPU profiles there; where their time went is printed by file
`

process.exitCode = await main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  return 1
})

async function main(argv: readonly string[]): Promise<number> {
  const asked = readArguments(argv)
  if (asked === undefined) {
    process.stderr.write(USAGE)
    return 64
  }
  const machine = await describeMachine()
  process.stdout.write(`${machine.line}\n`)
  for (const name of asked.names) {
    const measure = MEASURES[name]
    if (measure === undefined) continue
    const startedAt = performance.now()
    const outcome = await measure(asked.options)
    const took = Math.round((performance.now() - startedAt) / 1000)
    printOutcome(name, outcome)
    process.stdout.write(`${name} took ${took} s\n`)
    const { seconds, scale } = asked.options
    await keepResult({ name, machine, seconds, scale, at: new Date().toISOString(), ...outcome })
  }
  if (asked.options.profileDir !== null) await printProfiles(asked.options.profileDir)
  return 0
}

function readArguments(argv: readonly string[]): { names: string[]; options: BenchOptions } | undefined {
  try {
    const { values, positionals } = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        seconds: { type: 'string', default: '10' },
        scale: { type: 'string', default: '1' },
        orders: { type: 'string', default: '200' },
        'cpu-prof': { type: 'string' },
      },
    })
    const [seconds, scale] = [Number(values.seconds), Number(values.scale)]
    const orders = Number(values.orders)
    const names = positionals.includes('all') ? Object.keys(MEASURES) : positionals
    const isKnown = names.length > 0 && names.every((name) => Object.hasOwn(MEASURES, name))
    if (!isKnown || !(seconds > 0 && seconds <= 600) || !(scale > 0 && scale <= 10)) return undefined
    if (!(Number.isInteger(orders) && orders >= 10 && orders <= 100_000)) return undefined
    const profileDir = values['cpu-prof'] ?? null
    return { names, options: { seconds, scale, orders, profileDir, signal: stopSignal() } }
  } catch {
    return undefined
  }
}

/** Aborted by the first signal: what was started is stopped and removed. The second ends the process. */
function stopSignal(): AbortSignal {
  const stop = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => stop.abort(new Error(`stopped by ${name}`)))
  }
  return stop.signal
}
