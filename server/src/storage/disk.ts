import { statfs } from 'node:fs/promises'
import { GateError } from '../domain/error.ts'

/** What is asked of a file system; `fs.statfs` fits. */
export type Statfs = (path: string) => Promise<{ bavail: number; bsize: number }>

export interface DiskOptions {
  folder: string
  /** Below this, new work is refused. */
  minBytes: number
  statfs?: Statfs
}

/** Watches the free space of the data folder: when it runs short, what is under way may finish, and nothing begins. */
export class Disk {
  readonly #options: DiskOptions
  #freeBytes = Number.POSITIVE_INFINITY

  constructor(options: DiskOptions) {
    this.#options = options
  }

  /** As of the last round. */
  get freeBytes(): number {
    return this.#freeBytes
  }

  get isLow(): boolean {
    return this.#freeBytes < this.#options.minBytes
  }

  async tick(): Promise<boolean> {
    const { folder, statfs: ask = statfs } = this.#options
    const { bavail, bsize } = await ask(folder)
    this.#freeBytes = bavail * bsize
    return false
  }

  /** Throws `GateError` SERVICE_UNAVAILABLE while the disk is low. */
  refuseWhenLow(): void {
    if (!this.isLow) return
    const free = Math.floor(this.#freeBytes / 2 ** 20)
    const least = Math.ceil(this.#options.minBytes / 2 ** 20)
    throw new GateError('SERVICE_UNAVAILABLE', `The disk is nearly full: ${free} MiB are free.`, {
      hint: `Runs under way go on. Free at least ${least} MiB on the data folder (AGENTGATE_MIN_DISK_MB), or set AGENTGATE_RETENTION_DAYS.`,
    })
  }
}
