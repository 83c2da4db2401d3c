/**
 * Owns: the regular look at the runs at work here, for what other processes and time did to them.
 * Leaves to others: stopping the work (workbench), deadlines of runs that nobody holds (the sweep).
 */
import type { RunId } from '../domain/facts.ts'
import { isFinal } from '../domain/lifecycle.ts'
import { timeDeadline } from '../domain/run.ts'
import type { Clock } from '../lib/clock.ts'
import type { Ticking } from '../lib/loop.ts'
import type { Database } from '../storage/database.ts'
import { findHeldRun } from '../storage/runs.ts'
import { listHeld } from '../storage/workers.ts'
import type { Mailboxes } from './mailbox.ts'
import type { Workbench } from './workbench.ts'

export interface WatchOptions {
  database: Database
  clock: Clock
  mailboxes: Mailboxes
  workbench: Workbench
  workerId: string
  wakeClaims: () => void
}

export class Watch implements Ticking {
  readonly #options: WatchOptions
  /** Claims that the last look found held here and not worked on. */
  #idleClaims: ReadonlySet<string> = new Set()

  constructor(options: WatchOptions) {
    this.#options = options
  }

  /** Learns what other processes did to the runs at work here. */
  async tick(): Promise<boolean> {
    const { database, mailboxes, workbench, workerId } = this.#options
    this.#stopOverdue()
    const held = new Map((await listHeld(database, workerId)).map((row) => [row.id, row]))
    await this.#letGo([...held.values()].filter(({ id }) => !workbench.has(id)))
    for (const id of workbench.ids()) {
      const known = mailboxes.peek(id)
      const lastSeq = held.get(id)?.lastSeq
      if (known !== null && lastSeq !== undefined && lastSeq <= known.lastSeq) continue
      await this.#lookAgain(id)
    }
    return false
  }

  /** Work that has gone on for as long as it may is told to stop; its end is told when it has. */
  #stopOverdue(): void {
    const { clock, mailboxes, workbench } = this.#options
    const now = clock.now()
    for (const id of workbench.ids()) {
      const run = mailboxes.peek(id)
      const deadline = run && timeDeadline(run)
      if (deadline !== null && now >= deadline) workbench.stop(id, 'overdue')
    }
  }

  /**
   * Gives up runs that stand as held here and are not worked on: those of a worker that was fenced and came back. One
   * that is just being claimed looks the same for a moment, so it has to be seen twice; its claim protects it then.
   */
  async #letGo(idle: readonly { id: RunId; claim: string }[]): Promise<void> {
    const { mailboxes, wakeClaims } = this.#options
    const again = idle.filter(({ claim }) => this.#idleClaims.has(claim))
    this.#idleClaims = new Set(idle.map(({ claim }) => claim))
    const holder = { claim: null, workerId: null, handedBack: false }
    const sends = again.map(({ id, claim }) =>
      mailboxes.send(id, { orders: [{ command: { type: 'hand_back' } }], claim, holder }),
    )
    await Promise.allSettled(sends)
    if (again.length > 0) wakeClaims()
  }

  async #lookAgain(id: RunId): Promise<void> {
    const { database, workbench, workerId } = this.#options
    const found = await findHeldRun(database, id)
    if (found === undefined || isFinal(found.run.state)) workbench.stop(id, 'finished')
    else if (found.holding.workerId !== workerId) workbench.stop(id, 'lost')
    else if (found.run.cancelRequestedAt !== null) workbench.stop(id, 'canceled')
  }
}
