/**
 * Owns the control groups of this process's jails and the choice of how limits are held.
 * Invariants: a group lies below the server's own group, so the operator's limits stay above ours; it is named
 * after the process that made it, so that a later start can tell which are left over.
 * Leaves to others: the limits of single processes (`rlimitArgs`, applied inside the jail), mounts.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import type { JailLimits, LimitMechanism } from './command.ts'
import { isStale, processMark } from './process-mark.ts'

/** Where the processes of one slot live while they run. */
export interface Cage {
  /** Words to put before a command so that it and all it starts are held by these limits. */
  enter(limits: JailLimits): string[]
  /** Kills what is left inside and tells how many processes that were. */
  sweep(): number
  close(): void
}

export interface Limiter {
  mechanism: LimitMechanism
  cage(name: string): Cage
  close(): void
}

/** bwrap's own processes around the command. */
const JAIL_PROCESSES = 4

const ENTER = [
  '/bin/sh',
  '-c',
  'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ > "$1/cgroup.procs" || exit 126; shift; n=$((n - 1)); done; exec "$@"',
  'sh',
]

/** The best mechanism that works here, each tried by running a program under it. */
export function openLimiter(): Limiter {
  return openCgroup() ?? openSystemd() ?? plainLimiter
}

/** Options of `prlimit` for the limits that each process carries itself. */
export function rlimitArgs(limits: JailLimits, mechanism: LimitMechanism): string[] {
  const hard = hardLimits()
  const cap = (name: string, value: number): number => Math.min(value, hard.get(name) ?? value)
  const args = [
    '--core=0',
    `--nofile=${cap('Max open files', limits.openFiles)}`,
    `--fsize=${cap('Max file size', limits.fileBytes)}`,
  ]
  if (mechanism === 'prlimit') {
    args.push(`--nproc=${cap('Max processes', limits.processes)}`)
    args.push(`--data=${cap('Max data size', limits.memoryBytes)}`)
  }
  return args
}

/** What no process of ours may exceed; asking for more would be refused. */
function hardLimits(): Map<string, number> {
  if (!existsSync('/proc/self/limits')) return new Map()
  const found = readFileSync('/proc/self/limits', 'utf8').matchAll(/^(Max [a-z ]+?) {2,}\S+ +(\d+)/gm)
  return new Map([...found].map((match) => [match[1] ?? '', Number(match[2])]))
}

const plainLimiter: Limiter = {
  mechanism: 'prlimit',
  cage: () => ({ enter: () => [], sweep: () => 0, close: () => undefined }),
  close: () => undefined,
}

function openSystemd(): Limiter | undefined {
  if (!existsSync('/run/systemd/system')) return undefined
  const user = process.getuid?.() === 0 ? [] : ['--user']
  const scope = (limits: JailLimits): string[] =>
    [
      ['systemd-run', ...user, '--scope', '--quiet', '--collect'],
      ['-p', `TasksMax=${limits.processes + JAIL_PROCESSES}`],
      ['-p', `MemoryMax=${limits.memoryBytes}`, '-p', 'MemorySwapMax=0', '--'],
    ].flat()
  if (!runs([...scope(PROBE_LIMITS), 'true'])) return undefined
  return {
    mechanism: 'systemd',
    cage: () => ({ enter: scope, sweep: () => 0, close: () => undefined }),
    close: () => undefined,
  }
}

const PROBE_LIMITS: JailLimits = {
  processes: 64,
  memoryBytes: 64 * 2 ** 20,
  fileBytes: 2 ** 20,
  diskBytes: 2 ** 20,
  openFiles: 64,
  tmpBytes: 2 ** 20,
}

type Hierarchy = { mechanism: 'cgroup2'; folders: [string] } | { mechanism: 'cgroup1'; folders: string[] }

/** The groups below which ours may be made, from what the kernel says about this process. */
export function findHierarchy(mountinfo: string, selfCgroup: string): Hierarchy | undefined {
  const own = new Map<string, string>()
  for (const line of selfCgroup.trim().split('\n')) {
    const [, controllers = '', ...path] = line.split(':')
    for (const controller of controllers.split(',')) own.set(controller, path.join(':'))
  }
  const folders = new Map<string, string>()
  for (const line of mountinfo.trim().split('\n')) {
    const [before = '', after = ''] = line.split(' - ')
    const [, , , root = '/', mountPoint = ''] = before.split(' ')
    const [type, , options = ''] = after.split(' ')
    const controllers = type === 'cgroup' ? options.split(',') : type === 'cgroup2' ? [''] : []
    for (const controller of controllers) {
      const path = own.get(controller)
      if (path === undefined || folders.has(controller)) continue
      const below = root !== '/' && path.startsWith(root) ? path.slice(root.length) : path
      folders.set(controller, resolve(mountPoint, `.${below}`))
    }
  }
  const pids = folders.get('pids')
  const memory = folders.get('memory')
  if (pids !== undefined && memory !== undefined) {
    return { mechanism: 'cgroup1', folders: [...new Set([pids, memory])] }
  }
  const unified = folders.get('')
  return unified === undefined ? undefined : { mechanism: 'cgroup2', folders: [unified] }
}

function currentHierarchy(): Hierarchy | undefined {
  if (!existsSync('/proc/self/cgroup')) return undefined
  return findHierarchy(
    readFileSync('/proc/self/mountinfo', 'utf8'),
    readFileSync('/proc/self/cgroup', 'utf8'),
  )
}

let opened = 0

function openCgroup(): Limiter | undefined {
  const hierarchy = currentHierarchy()
  if (hierarchy === undefined) return undefined
  const parents = hierarchy.mechanism === 'cgroup2' ? delegated(hierarchy.folders[0]) : hierarchy.folders
  const name = `agentgate-${processMark()}-${++opened}`
  const groups = parents.map((parent) => join(parent, name))
  const close = (): void => groups.forEach(removeGroup)
  try {
    for (const group of groups) {
      mkdirSync(group)
      if (hierarchy.mechanism === 'cgroup2') {
        writeFileSync(join(group, 'cgroup.subtree_control'), '+pids +memory')
      }
    }
    const limiter: Limiter = {
      mechanism: hierarchy.mechanism,
      cage: (slot) => groupCage(groups, slot),
      close,
    }
    const probe = limiter.cage('probe')
    const works = groups.length > 0 && runs([...probe.enter(PROBE_LIMITS), 'true'])
    probe.close()
    if (works) return limiter
  } catch {
    // Not ours to write: the next mechanism is tried.
  }
  close()
  return undefined
}

/** The nearest group of version 2 that hands the controllers we need to its children. */
function delegated(own: string): string[] {
  for (let folder = own; existsSync(join(folder, 'cgroup.subtree_control')); folder = dirname(folder)) {
    const handed = readFileSync(join(folder, 'cgroup.subtree_control'), 'utf8').trim().split(' ')
    if (handed.includes('pids') && handed.includes('memory')) return [folder]
  }
  return []
}

function groupCage(parents: readonly string[], slot: string): Cage {
  const groups = parents.map((parent) => join(parent, slot))
  for (const group of groups) mkdirSync(group, { recursive: true })
  const set = (file: string, value: number | string): void => {
    const group = groups.find((folder) => existsSync(join(folder, file)))
    if (group !== undefined) writeFileSync(join(group, file), String(value))
  }
  return {
    enter(limits) {
      set('pids.max', limits.processes + JAIL_PROCESSES)
      set('memory.max', limits.memoryBytes)
      set('memory.swap.max', 0)
      setLegacyMemory(set, limits.memoryBytes)
      return [...ENTER, String(groups.length), ...groups]
    },
    sweep: () => killGroups(groups),
    close: () => groups.forEach(removeGroup),
  }
}

/** Memory and memory with swap must keep their order while they change: the second is never the smaller one. */
function setLegacyMemory(set: (file: string, value: number) => void, bytes: number): void {
  try {
    set('memory.memsw.limit_in_bytes', -1)
  } catch {
    // Swap is not accounted on this kernel.
  }
  set('memory.limit_in_bytes', bytes)
  try {
    set('memory.memsw.limit_in_bytes', bytes)
  } catch {
    // As above.
  }
}

function killGroups(groups: readonly string[]): number {
  const pids = new Set(groups.flatMap((group) => processesOf(group)))
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // Gone already.
    }
  }
  return pids.size
}

function processesOf(group: string): number[] {
  try {
    return readFileSync(join(group, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

/** The groups in this one; none where it is gone, which it may be at any moment: other servers clean up, too. */
export function groupsIn(group: string): string[] {
  try {
    const entries = readdirSync(group, { withFileTypes: true })
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(group, name))
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
    throw error
  }
}

function removeGroup(group: string): void {
  for (const inner of groupsIn(group)) removeGroup(inner)
  try {
    rmdirSync(group)
  } catch {
    // It is gone, or a process in it is still dying; the next start removes it.
  }
}

/** Kills and removes the groups of servers that are gone. */
export function removeStaleGroups(): void {
  const hierarchy = currentHierarchy()
  if (hierarchy === undefined) return
  const parents = hierarchy.mechanism === 'cgroup2' ? delegated(hierarchy.folders[0]) : hierarchy.folders
  for (const parent of parents) {
    for (const group of groupsIn(parent)) {
      const name = basename(group)
      if (!name.startsWith('agentgate-') || !isStale(name.slice('agentgate-'.length))) continue
      killGroups([group, ...groupsIn(group)])
      removeGroup(group)
    }
  }
}

function runs(words: readonly string[]): boolean {
  const [file = '', ...args] = words
  return spawnSync(file, args, { stdio: 'ignore', timeout: 5_000 }).status === 0
}
