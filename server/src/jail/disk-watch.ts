/**
 * Owns the watch over what one command writes to the disk while it runs.
 * Invariants: what the folders take is found out again whenever the file system has lost as much as is left to them,
 * so the command is overtaken within one look, however fast it writes; the last look comes after its last process.
 * Leaves to others: space that is taken without writing (`syscall-filter.ts`), single files (`rlimitArgs`), killing.
 */
import { execFile } from 'node:child_process'
import { readdir, readlink, statfs } from 'node:fs/promises'
import { systemClock } from '../lib/clock.ts'

export interface DiskRules {
  /** Folders that the command may write; the first is its workspace. */
  folders: readonly string[]
  /** What each of them may take. */
  bytes: number
  /** Whether a command before this one filled them: what is too full may be cleared up, but not grow. */
  wasFull: boolean
  /** Free space of the file system below which every command is stopped. */
  floorBytes: number
  /** The first process of the command's jail while it lives. */
  firstProcess: () => number | undefined
}

export interface DiskWatch {
  /** Looks for the last time, and says in a sentence what was too much. Nothing of the command may be running. */
  end(): Promise<string | undefined>
}

const LOOK_MS = 40
const MEASURE_MS = 2_000
/** The share of its time that a watch may spend on measuring where nothing is urgent. */
const MEASURING = 1 / 40
const MEASURE_TIMEOUT_MS = 60_000
/** What a file takes at least, so that empty ones are counted too. */
const FILE_BYTES = 4_096
/** How far over its limit a workspace may be for commands to run in it all the same, to clear it up. */
const CLEARING_BYTES = 2 ** 30

/** Begins to watch, before the command starts; `onFull` is called once, as soon as it is too much. */
export async function watchDisk(rules: DiskRules, onFull: () => void): Promise<DiskWatch> {
  const { folders, bytes, wasFull } = rules
  const takenBytes = wasFull ? await mostOf(folders).catch(() => 0) : 0
  const limit = Math.max(bytes, Math.min(takenBytes, bytes + CLEARING_BYTES))
  const watch = new FolderWatch(rules, { limit, onFull, before: await roomOf(folders[0]) })
  watch.begin()
  return watch
}

interface Room {
  freeBytes: number
  freeFiles: number
}

interface Beginning {
  limit: number
  onFull: () => void
  before: Room | undefined
}

class FolderWatch implements DiskWatch {
  readonly #rules: DiskRules
  readonly #limit: number
  readonly #onFull: () => void
  #before: Room | undefined
  /** How much the file system may lose until the folders are measured again; little while nothing is known. */
  #leftBytes: number
  #measureAt: number
  #full: string | undefined
  #looking: Promise<void> = Promise.resolve()
  #forget: () => void = () => undefined

  constructor(rules: DiskRules, { limit, onFull, before }: Beginning) {
    this.#rules = rules
    this.#limit = limit
    this.#onFull = onFull
    this.#before = before
    this.#leftBytes = limit / 8
    this.#measureAt = systemClock.monotonic() + MEASURE_MS / 8
  }

  begin(): void {
    this.#looking = this.#look().then(() => {
      if (this.#full === undefined) this.#forget = systemClock.after(LOOK_MS, () => this.begin())
    })
  }

  async end(): Promise<string | undefined> {
    await this.#looking
    this.#forget()
    if (this.#full === undefined) await this.#look({ isLast: true })
    return this.#full
  }

  async #look({ isLast = false } = {}): Promise<void> {
    const { folders, floorBytes } = this.#rules
    const room = await roomOf(folders[0])
    // A folder that is gone has nobody to write to it any more.
    if (room === undefined) return
    if (room.freeBytes < floorBytes) {
      const free = Math.floor(room.freeBytes / 1e6)
      this.#stop(`The disk of the server is nearly full (${free} MB are free), so the command was stopped.`)
      return
    }
    if (!this.#isDue(room, isLast)) return
    const since = systemClock.monotonic()
    // What cannot be counted in time is too much.
    const diskBytes = await this.#measure().catch(() => Number.POSITIVE_INFINITY)
    if (diskBytes > this.#limit) {
      const limit = Math.round(this.#rules.bytes / 1e6)
      this.#stop(
        `The workspace takes more than the ${limit} MB allowed for it, so the command was stopped: remove what is not needed.`,
      )
    }
    const took = systemClock.monotonic() - since
    this.#measureAt = systemClock.monotonic() + Math.max(MEASURE_MS, took / MEASURING)
    this.#leftBytes = this.#limit - diskBytes
    this.#before = room
  }

  async #measure(): Promise<number> {
    const named = await mostOf(this.#rules.folders)
    const first = this.#rules.firstProcess()
    return named > this.#limit || first === undefined ? named : named + (await namelessBytes(first))
  }

  #isDue({ freeBytes, freeFiles }: Room, isLast: boolean): boolean {
    const before = this.#before
    if (before === undefined) return true
    const hasChanged = freeBytes !== before.freeBytes || freeFiles !== before.freeFiles
    if (isLast || systemClock.monotonic() >= this.#measureAt) return hasChanged
    const lostBytes = Math.max(before.freeBytes - freeBytes, (before.freeFiles - freeFiles) * FILE_BYTES)
    return lostBytes >= this.#leftBytes
  }

  #stop(reason: string): void {
    if (this.#full !== undefined) return
    this.#full = reason
    this.#onFull()
  }
}

async function roomOf(folder = '/'): Promise<Room | undefined> {
  const found = await statfs(folder).catch(() => undefined)
  return found && { freeBytes: found.bavail * found.bsize, freeFiles: found.ffree }
}

/** What the fullest of the folders takes. A file counts as a block at least. */
async function mostOf(folders: readonly string[]): Promise<number> {
  const taken = folders.map(async (folder) => {
    const counts = ['--block-size=1', '--inodes'].map((unit) =>
      ask('/usr/bin/du', ['--summarize', '--one-file-system', unit, folder]),
    )
    const [bytes = 0, files = 0] = (await Promise.all(counts)).map((said) => Number.parseInt(said, 10) || 0)
    return Math.max(bytes, files * FILE_BYTES)
  })
  return Math.max(...(await Promise.all(taken)))
}

/** What files take that have no name any more and are held open by the processes of a jail. */
async function namelessBytes(first: number): Promise<number> {
  const space = await namespaceOf(String(first))
  if (space === undefined) return 0
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const spaces = await Promise.all(pids.map(namespaceOf))
  const open = pids.filter((_, at) => spaces[at] === space).map((pid) => `/proc/${pid}/fd`)
  const nameless = ['-mindepth', '1', '-maxdepth', '1', '-type', 'f', '-links', '0']
  const found = await ask('/usr/bin/find', ['-L', ...open, ...nameless, '-printf', '%D:%i %b\n'])
  const blocks = new Map(
    found.split('\n').map((line) => [line.split(' ')[0], Number(line.split(' ')[1]) || 0]),
  )
  return [...blocks.values()].reduce((sum, count) => sum + count * 512, 0)
}

const namespaceOf = (pid: string): Promise<string | undefined> =>
  readlink(`/proc/${pid}/ns/pid`).catch(() => undefined)

/** What a program prints, also when it complains: names come and go meanwhile. Rejects when it finds no end. */
const ask = (program: string, args: readonly string[]): Promise<string> =>
  new Promise((resolve, reject) => {
    const limits = { timeout: MEASURE_TIMEOUT_MS, killSignal: 'SIGKILL', maxBuffer: 16 * 2 ** 20 } as const
    execFile(program, args, { ...limits, env: { LC_ALL: 'C' } }, (error, said) => {
      if (error?.killed === true) reject(error)
      else resolve(said)
    })
  })
