/** CPU time and memory of process trees, as Linux tells them in `/proc`. */
import { readdirSync, readFileSync } from 'node:fs'
import { rounded } from './load.ts'
import type { Row } from './suite.ts'

/** `sysconf(_SC_CLK_TCK)`, which Linux fixes for programs. */
const TICKS_PER_SECOND = 100

interface Stat {
  parent: number
  ownTicks: number
  /** Of children that have ended and were waited for. */
  pastTicks: number
}

/** Nothing for a process that is gone. */
function readStat(pid: number): Stat | undefined {
  let text: string
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined
  }
  // The name stands in brackets and may hold anything; the numbers follow the last one.
  const fields = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number)
  const [, parent = 0, ...rest] = fields
  const [user = 0, system = 0, pastUser = 0, pastSystem = 0] = rest.slice(9)
  return { parent, ownTicks: user + system, pastTicks: pastUser + pastSystem }
}

/** A process and all below it. */
export function processTree(root: number): number[] {
  const children = new Map<number, number[]>()
  for (const name of readdirSync('/proc')) {
    const pid = Number(name)
    const stat = Number.isInteger(pid) ? readStat(pid) : undefined
    if (stat) children.set(stat.parent, [...(children.get(stat.parent) ?? []), pid])
  }
  const below = (pid: number): number[] => [pid, ...(children.get(pid) ?? []).flatMap(below)]
  return below(root)
}

/** CPU of these so far, in seconds, with their children that have ended. */
export function cpuSeconds(pids: readonly number[]): number {
  const ticks = pids.map((pid) => {
    const stat = readStat(pid)
    return stat ? stat.ownTicks + stat.pastTicks : 0
  })
  return ticks.reduce((sum, each) => sum + each, 0) / TICKS_PER_SECOND
}

/** Watches from now on; gives cores used per second, of the bench's own process too, which makes the load. */
export function watchCores({ gateways, postmaster }: Measured): (seconds: number) => Row {
  const read = (): number[] => {
    const { user, system } = process.cpuUsage()
    return [cpuSeconds(gateways), cpuSeconds(processTree(postmaster)), (user + system) / 1e6]
  }
  const before = read()
  return (seconds) => {
    const [gateway = 0, postgres = 0, load = 0] = read().map((value, i) =>
      rounded((value - (before[i] ?? 0)) / seconds),
    )
    return { gatewayCores: gateway, postgresCores: postgres, loadCores: load }
  }
}

export interface Measured {
  gateways: readonly number[]
  postmaster: number
}

/** Proportional set sizes, which count a shared page once; in MiB. */
export function pssMib(pids: readonly number[]): number {
  const kilobytes = pids.map((pid) => {
    try {
      return Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0)
    } catch {
      return 0
    }
  })
  return Math.round(kilobytes.reduce((sum, each) => sum + each, 0) / 1024)
}

/** What a process holds open, by what `/proc` says of it. */
export function holdings(pid: number): { files: number; threads: number; mounts: number } {
  const lines = (name: string): string[] => readFileSync(`/proc/${pid}/${name}`, 'utf8').trim().split('\n')
  const threads = lines('status').find((line) => line.startsWith('Threads:'))
  return {
    files: readdirSync(`/proc/${pid}/fd`).length,
    threads: Number(threads?.split(/\s+/)[1]),
    mounts: lines('mountinfo').length,
  }
}

/** Resident memory of one process, in MiB. */
export const rssMib = (pid: number): number =>
  Math.round(Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024)
