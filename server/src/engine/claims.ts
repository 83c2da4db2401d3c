import type { RunId } from '../domain/facts.ts'
import { type Lane, pickClaims, type Turn } from '../domain/fairness.ts'
import { isFinal } from '../domain/lifecycle.ts'
import { ClaimLost, type Performer } from '../domain/performer.ts'
import type { Run } from '../domain/run.ts'
import type { Clock } from '../lib/clock.ts'
import { newId } from '../lib/id.ts'
import type { Database } from '../storage/database.ts'
import { listOrphans, listQueued, type Orphan, readQueue } from '../storage/queue.ts'
import { findHeldRun } from '../storage/runs.ts'
import type { CapOf } from './decisions.ts'
import type { Mailboxes, Sending } from './mailbox.ts'
import type { Log, Workbench } from './workbench.ts'

export interface ClaimsOptions {
  database: Database
  clock: Clock
  mailboxes: Mailboxes
  workbench: Workbench
  performer: Performer
  workerId: string
  capOf: CapOf
  /** No other worker's run is taken before this moment. */
  graceUntil: number
  /** A worker without a lease holds nothing and takes nothing. */
  isFenced: () => boolean
  log: Log
}

/** A new token for a claim, and the sending that takes a run with it. */
export function claiming(
  workerId: string,
  at: number,
  options: Partial<Sending> = {},
): { token: string; sending: Sending } {
  const token = newId('clm', at)
  return {
    token,
    sending: {
      orders: [{ command: { type: 'claim', cause: null } }],
      holder: { claim: token, workerId, handedBack: false },
      ...options,
    },
  }
}

/** Takes runs to the workbench: orphans first, then the queue in fair order. */
export class Claims {
  readonly #options: ClaimsOptions

  /** Whether runs may be waiting: known from the last look, or told by `expect`. */
  #backlog = true
  #waiting: Set<string> = new Set()
  /** Runs that were taken up here as unproven or suspect and have no step since: one of them may be what kills. */
  readonly #unproven = new Set<RunId>()

  constructor(options: ClaimsOptions) {
    this.#options = options
  }

  get hasBacklog(): boolean {
    return this.#backlog
  }

  /** Whether runs of this organisation were waiting at the last look: who comes now waits behind them. */
  isWaiting(organization: string): boolean {
    return this.#waiting.has(organization)
  }

  /** A run was queued, of this organisation if it is known: there is something to look for. */
  expect(organization?: string): void {
    this.#backlog = true
    if (organization !== undefined) this.#waiting.add(organization)
  }

  /** One round; true when it took a run and may find more. */
  async tick(): Promise<boolean> {
    const { free } = this.#options.workbench
    if (free <= 0 || this.#options.isFenced()) return false
    const resumed = await this.#takeOrphans(free)
    const started = resumed < free ? await this.#takeQueued(free - resumed) : 0
    return resumed + started > 0
  }

  async #takeOrphans(free: number): Promise<number> {
    const { database, clock, graceUntil } = this.#options
    const now = clock.now()
    const orphans = await listOrphans(database, new Date(now), free)
    const ours = orphans.filter(
      ({ id, claim }) => !this.#options.workbench.has(id) && (claim === null || now >= graceUntil),
    )
    const chosen = this.#choose(ours)
    return this.#count(chosen.map((orphan) => ({ id: orphan.id, taking: this.#takeOrphan(orphan) })))
  }

  /** All but the suspects; of those one, when no other run here is unproven. */
  #choose(orphans: readonly Orphan[]): Orphan[] {
    const { workbench } = this.#options
    for (const id of this.#unproven) if (!workbench.has(id)) this.#unproven.delete(id)
    const chosen = orphans.filter(({ standing }) => standing !== 'suspect')
    for (const { id, standing } of chosen) if (standing === 'unproven') this.#unproven.add(id)
    const suspect = orphans.find(({ standing }) => standing === 'suspect')
    if (suspect === undefined || this.#unproven.size > 0) return chosen
    this.#unproven.add(suspect.id)
    return [...chosen, suspect]
  }

  /** Learns how a run stands; true when it was the last unproven one here, and is none any more. */
  clears(run: Run): boolean {
    if (run.strikes > 0 && !isFinal(run.state)) return false
    return this.#unproven.delete(run.facts.id) && this.#unproven.size === 0
  }

  #takeOrphan({ id, claim, handedBack }: Orphan): Promise<boolean> {
    const { database, clock, workerId, workbench, performer } = this.#options
    return workbench.fill(async () => {
      const found = await findHeldRun(database, id)
      if (found === undefined) return null
      const resumePoint = await performer.resumePoint(found.run)
      const cause = handedBack ? 'handed_back' : 'worker_lost'
      const { token, sending } = claiming(workerId, clock.now(), {
        orders: [{ command: { type: 'claim', cause, fromStep: keptSteps(found.run, resumePoint) } }],
        expectedHolder: { claim },
      })
      return this.#take(id, { token, sending, resumePoint })
    })
  }

  async #takeQueued(free: number): Promise<number> {
    const { database, capOf } = this.#options
    const queue = await readQueue(database, capOf)
    this.#backlog = queue.waiting.size > 0
    this.#waiting = new Set(queue.waiting)
    const picks = pickClaims(queue.lanes, queue.room, { free, virtualTime: queue.virtualTime })
    const perLane = groupByLane(picks)
    const taken = await Promise.all(
      [...perLane].map(async ([lane, wanted]) => {
        const ids = await listQueued(database, lane, wanted.length)
        return this.#count(
          ids.map((id, i) => ({ id, taking: this.#takeNext(id, wanted[i]?.virtualTime ?? 0) })),
        )
      }),
    )
    return taken.reduce((sum, n) => sum + n, 0)
  }

  /** How many were taken, once all have their answer: one that cannot be taken keeps no other back. */
  async #count(runs: readonly { id: RunId; taking: Promise<boolean> }[]): Promise<number> {
    const ends = await Promise.allSettled(runs.map(({ taking }) => taking))
    ends.forEach((end, i) => {
      if (end.status === 'rejected')
        this.#options.log.error({ runId: runs[i]?.id, err: end.reason }, 'A run could not be taken up.')
    })
    return ends.filter((end) => end.status === 'fulfilled' && end.value).length
  }

  #takeNext(id: RunId, virtualTime: number): Promise<boolean> {
    const { clock, workerId, workbench } = this.#options
    return workbench.fill(async () => {
      const { token, sending } = claiming(workerId, clock.now(), {
        expectedHolder: { claim: null },
        virtualTime,
      })
      return this.#take(id, { token, sending, resumePoint: 0 })
    })
  }

  /** Null when somebody else was faster, no capacity was left, or the claim itself ended the run. */
  async #take(
    id: RunId,
    { token, sending, resumePoint }: { token: string; sending: Sending; resumePoint: number },
  ): Promise<{ run: Run; token: string; resumePoint: number } | null> {
    try {
      const { run, refusal } = await this.#options.mailboxes.send(id, sending)
      return refusal === null && run.state === 'running' ? { run, token, resumePoint } : null
    } catch (error) {
      if (error instanceof ClaimLost) return null
      throw error
    }
  }
}

/** The step after the restored one keeps its answer, which the journal has; only its tools are run again. */
const keptSteps = (run: Run, resumePoint: number): number => Math.min(run.begunStep, resumePoint + 1)

function groupByLane(picks: readonly Turn[]): Map<Lane, Turn[]> {
  const groups = new Map<Lane, Turn[]>()
  for (const pick of picks) groups.set(pick.lane, [...(groups.get(pick.lane) ?? []), pick])
  return groups
}
