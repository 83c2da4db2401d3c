/**
 * Owns the slots: which uid runs which command, one at a time.
 * Invariants: where no jail works, nothing runs unless the operator asked for that by name; a slot runs its next
 * command only after the last process of the one before is gone.
 * Leaves to others: what a jail contains (`view.ts`), running and killing (`process.ts`), limits (`limits.ts`).
 */
import { chmodSync, chownSync, mkdirSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { BrokenInvariant, invariant } from '../lib/invariant.ts'
import type {
  JailedCommand,
  JailFinding,
  JailLimits,
  JailLog,
  JailReport,
  JailResult,
  JailSlot,
} from './command.ts'
import { type JailFiles, makeOutputPipes, removeJailFiles, writeJailFiles } from './jail-files.ts'
import { type Cage, type Limiter, openLimiter, rlimitArgs } from './limits.ts'
import { giveTree } from './ownership.ts'
import { describeStanding, findStanding, probeJail, type Standing, tryCommand } from './probe.ts'
import { type Launch, runProcess } from './process.ts'
import { syscallFilter } from './syscall-filter.ts'
import { bwrapOptions, hostFolder, innerWords, openEnv } from './view.ts'

export type {
  JailedCommand,
  JailFinding,
  JailLimits,
  JailLog,
  JailMount,
  JailNetwork,
  JailOutcome,
  JailReport,
  JailResult,
  JailSlot,
  LimitMechanism,
} from './command.ts'
export { cleanJails, jailRoot } from './jail-files.ts'
export { protectGit } from './view.ts'

export const DEFAULT_LIMITS: JailLimits = {
  processes: 512,
  memoryBytes: 4 * 2 ** 30,
  fileBytes: 2 * 2 ** 30,
  diskBytes: 2 * 2 ** 30,
  openFiles: 4096,
  tmpBytes: 512 * 2 ** 20,
}

export interface JailOptions {
  log: JailLog
  /** Commands that may run at once. */
  slots: number
  /** `none` runs commands with the server's rights; only ever by the operator's explicit word. */
  preferred: 'bubblewrap' | 'none'
  /** A folder that every slot's uid can enter; see `jailRoot`. */
  root: string
  limits?: JailLimits
  /** Free space of the disk below which no command goes on; none unless given. */
  diskFloorBytes?: number
  /** As root, slot `n` runs as uid and gid `baseUid + n`. */
  baseUid?: number
  /** The bubblewrap program. */
  bwrap?: string
}

export interface Jails extends AsyncDisposable {
  readonly report: JailReport
  /** Tries every promise of the jail with a hostile command in a free slot; empty where there is no jail. */
  probe(): Promise<JailFinding[]>
  /** Waits for a free slot; an aborted wait rejects with the signal's reason. */
  acquireSlot(signal?: AbortSignal): Promise<JailSlot>
}

/** Prepares `slots` jails below `root` and starts one; never rejects for want of a jail. */
export async function openJails(options: JailOptions): Promise<Jails> {
  const jails = new SlotPool(options)
  await jails.tryOut()
  return jails
}

const isRoot = (): boolean => process.getuid?.() === 0

class SlotPool implements Jails {
  readonly #options: JailOptions
  readonly #limits: JailLimits
  readonly #files: JailFiles
  readonly #limiter: Limiter
  readonly #uids: readonly number[]
  readonly #cages: readonly Cage[]
  readonly #pipes: readonly string[]
  readonly #running = new Map<number, { stop: () => void; ended: Promise<JailResult> }>()
  /** The workspace that a command has filled, by slot, until the slot is released. */
  readonly #full = new Map<number, string>()
  readonly #waiting: ((index: number) => void)[] = []
  readonly #free: number[]
  #standing: Standing = { jail: 'unavailable', reason: 'it was not tried yet' }

  constructor(options: JailOptions) {
    this.#options = options
    this.#limits = options.limits ?? DEFAULT_LIMITS
    this.#files = writeJailFiles(options.root)
    this.#limiter = openLimiter()
    const indexes = Array.from({ length: options.slots }, (_, index) => index)
    const own = process.getuid?.() ?? 0
    const changesUid = isRoot() && options.preferred === 'bubblewrap'
    this.#uids = indexes.map((index) => (changesUid ? (options.baseUid ?? 60_001) + index : own))
    this.#cages = indexes.map((index) => this.#limiter.cage(`slot-${index}`))
    this.#pipes = makeOutputPipes(this.#files, this.#uids)
    this.#free = indexes
  }

  get report(): JailReport {
    return describeStanding(this.#standing, this.#limiter.mechanism)
  }

  async tryOut(): Promise<void> {
    const command = tryCommand(this.#makeProbeFolder(0), 'true')
    const { preferred, log } = this.#options
    this.#standing =
      preferred === 'none'
        ? { jail: 'none' }
        : await findStanding((standing) => this.#execute(0, command, standing))
    const { summary, ...facts } = this.report
    log[facts.jail === 'bubblewrap' ? 'info' : 'warn'](facts, summary)
  }

  async probe(): Promise<JailFinding[]> {
    if (this.#standing.jail !== 'bubblewrap') return []
    const slot = await this.acquireSlot()
    try {
      return await probeJail(slot, this.#makeProbeFolder(slot.index))
    } finally {
      slot.release()
    }
  }

  /** A workspace for trying things out, removed with the jails. */
  #makeProbeFolder(index: number): string {
    const folder = join(this.#files.folder, `probe-${index}`)
    mkdirSync(folder, { recursive: true })
    const uid = this.#uids[index] ?? 0
    if (isRoot()) chownSync(folder, uid, uid)
    return folder
  }

  acquireSlot(signal?: AbortSignal): Promise<JailSlot> {
    if (signal?.aborted) return Promise.reject(signal.reason)
    const free = this.#free.shift()
    if (free !== undefined) return Promise.resolve(this.#slot(free))
    return new Promise((resolve, reject) => {
      const take = (index: number): void => {
        signal?.removeEventListener('abort', leave)
        resolve(this.#slot(index))
      }
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(take), 1)
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', leave, { once: true })
      this.#waiting.push(take)
    })
  }

  #slot(index: number): JailSlot {
    const uid = this.#uids[index] ?? 0
    const own = process.getuid?.() ?? 0
    const group = process.getgid?.() ?? 0
    const gid = uid === own ? group : uid
    let held = true
    return {
      index,
      uid,
      gid,
      run: async (command) =>
        held ? this.#run(index, command) : refusal('The slot was released before this command.'),
      own: async (path) => (uid === own ? undefined : giveTree(path, uid, gid)),
      disown: async (path) => (uid === own ? undefined : giveTree(path, own, group)),
      release: () => {
        if (!held) return
        held = false
        const back = (): void => this.#giveBack(index)
        void (this.#running.get(index)?.ended ?? Promise.resolve()).then(back, back)
      },
    }
  }

  #giveBack(index: number): void {
    this.#full.delete(index)
    const next = this.#waiting.shift()
    if (next) next(index)
    else this.#free.push(index)
  }

  async #run(index: number, command: JailedCommand): Promise<JailResult> {
    const standing = this.#standing
    const reason =
      standing.jail === 'unavailable'
        ? `No jail is available: ${standing.reason}.`
        : this.#running.has(index)
          ? 'The slot is running another command.'
          : findFault(command)
    if (reason !== undefined) return refusal(reason)
    const stopping = new AbortController()
    const stop = (): void => stopping.abort()
    if (command.signal.aborted) stop()
    command.signal.addEventListener('abort', stop, { once: true })
    const ended = this.#execute(index, { ...command, signal: stopping.signal }, standing)
    this.#running.set(index, { stop, ended })
    try {
      const result = await ended
      if (result.outcome === 'disk_limit') this.#full.set(index, command.workspace)
      return result
    } finally {
      command.signal.removeEventListener('abort', stop)
      this.#running.delete(index)
    }
  }

  async #execute(index: number, command: JailedCommand, standing: Standing): Promise<JailResult> {
    let launch: Launch
    try {
      launch = this.#prepare(index, command, standing)
    } catch (error) {
      if (error instanceof BrokenInvariant) throw error
      return refusal(
        `The command could not be prepared: ${error instanceof Error ? error.message : String(error)}.`,
      )
    }
    return runProcess(launch, command, this.#options.log)
  }

  #prepare(index: number, command: JailedCommand, standing: Standing): Launch {
    const limits = limitsOf(this.#limits, command)
    const uid = this.#uids[index] ?? 0
    const cage = this.#cages[index]
    const outputPipe = this.#pipes[index]
    invariant(cage && outputPipe !== undefined, 'a slot has its cage and its pipe')
    const enter = cage.enter(limits)
    const { diskBytes: bytes, fileBytes } = limits
    const disk = {
      folders: [command.workspace, ...writableMounts(command)],
      bytes,
      wasFull: this.#full.get(index) === command.workspace,
      floorBytes: this.#options.diskFloorBytes ?? 0,
    }
    const held = { outputPipe, cage, disk, fileBytes }
    const limited = ['/usr/bin/prlimit', ...rlimitArgs(limits, this.#limiter.mechanism), '--']
    if (standing.jail === 'none') {
      const cwd = hostFolder(command) ?? command.workspace
      return { ...held, cwd, env: openEnv(command), words: [...enter, ...limited, ...command.argv] }
    }
    if (command.network !== undefined && isRoot()) {
      chownSync(command.network.proxySocket, uid, uid)
      chmodSync(command.network.proxySocket, 0o600)
    }
    const disableUserns = standing.jail === 'bubblewrap' && standing.disableUserns
    const drop = isRoot() ? ['/usr/bin/setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'] : []
    const filter = syscallFilter()
    const filtered = filter === undefined ? [] : ['--seccomp', '5']
    const bwrap = [this.#options.bwrap ?? '/usr/bin/bwrap', '--args', '4', ...filtered, '--']
    return {
      ...held,
      syscallFilter: filter,
      cwd: '/',
      env: { PATH: '/usr/bin:/bin' },
      words: [...enter, ...drop, ...bwrap, ...limited, ...innerWords(this.#files, command)],
      bwrapOptions: `${bwrapOptions({ files: this.#files, limits, disableUserns }, command).join('\0')}\0`,
    }
  }

  /** Kills what runs, waits until it is gone, and removes what the jails left on the host. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const { stop } of this.#running.values()) stop()
    await Promise.allSettled([...this.#running.values()].map(({ ended }) => ended))
    for (const cage of this.#cages) cage.close()
    this.#limiter.close()
    removeJailFiles(this.#files)
  }
}

/** A file may not be larger than all files together. */
function limitsOf(base: JailLimits, command: JailedCommand): JailLimits {
  const limits = { ...base, ...command.limits }
  return { ...limits, fileBytes: Math.min(limits.fileBytes, limits.diskBytes) }
}

const writableMounts = ({ mounts = [] }: JailedCommand): string[] =>
  mounts.filter(({ readOnly }) => !readOnly).map(({ source }) => source)

const refusal = (reason: string): JailResult => ({
  outcome: 'refused_to_start',
  reason,
  output: '',
  outputBytes: 0,
  truncated: false,
  durationMs: 0,
})

/** What is wrong with a command before anything is started. */
function findFault(command: JailedCommand): string | undefined {
  const env = Object.entries(command.env ?? {})
  const mounts = (command.mounts ?? []).flatMap(({ source, target }) => [source, target])
  const folders = [command.workspace, command.cwd ?? '/', ...mounts]
  if (command.argv.length === 0) return 'The command is empty.'
  // bwrap takes its options separated by NUL: one inside a value would begin another option.
  if ([...folders, ...command.argv, ...env.flat()].some((text) => text.includes('\0'))) {
    return 'The command contains a NUL character.'
  }
  // The loader's variables would also reach the wrapper that sets the limits.
  const name = env.map(([key]) => key).find((key) => key === '' || key.includes('=') || key.startsWith('LD_'))
  if (name !== undefined) return `The environment variable ${name || '(empty)'} may not be set for a command.`
  if (!folders.every((path) => isAbsolute(path))) return 'The folders of a command must be absolute paths.'
  return undefined
}
