import type { JournalEntry } from '../domain/agent.ts'
import type { Refusal, WorkCommand } from '../domain/command.ts'
import type { HoldersStop } from '../domain/ends.ts'
import type { RunId } from '../domain/facts.ts'
import { ClaimLost, type HeldRun, LimitReached } from '../domain/performer.ts'
import { isForgotten, type Run } from '../domain/run.ts'
import type { NoteLate } from './late-usage.ts'
import type { Mailboxes, Order } from './mailbox.ts'

/** Why work is told to stop. */
export type StopReason = 'canceled' | 'overdue' | 'finished' | 'lost' | 'draining' | 'fenced'

export interface ClaimOptions {
  run: Run
  claim: string
  mailboxes: Mailboxes
  readJournal: (id: RunId) => Promise<JournalEntry[]>
  /** Outcomes of steps after this one are not in the restored workspace and are had again. */
  resumePoint: number
  onDraft: (id: RunId, text: string) => void
  noteLate: NoteLate
}

/** A claimed run as its performer sees it. */
export class Claim implements HeldRun {
  readonly #options: ClaimOptions
  readonly #stop = new AbortController()
  readonly #deferred: Order[] = []
  #run: Run
  #how: HoldersStop = 'agreed'

  constructor(options: ClaimOptions) {
    this.#options = options
    this.#run = options.run
  }

  get run(): Run {
    return this.#run
  }

  get token(): string {
    return this.#options.claim
  }

  get signal(): AbortSignal {
    return this.#stop.signal
  }

  get stopReason(): StopReason | null {
    return this.signal.aborted ? (this.signal.reason as StopReason) : null
  }

  /** How the work stopped, once it has. */
  get how(): HoldersStop {
    return this.#how
  }

  noteKilled(): void {
    this.#how = 'killed'
  }

  stop(reason: StopReason): void {
    if (!this.signal.aborted) this.#stop.abort(reason)
  }

  defer(command: WorkCommand, journal: readonly JournalEntry[] = []): void {
    this.#deferred.push({ command, journal })
  }

  send(command: WorkCommand, journal: readonly JournalEntry[] = []): Promise<Run> {
    this.defer(command, journal)
    return this.flush()
  }

  async flush(): Promise<Run> {
    const { mailboxes, claim } = this.#options
    const orders = this.#deferred.splice(0)
    if (orders.length === 0) return this.#run
    const reply = mailboxes.send(this.#run.facts.id, { orders, claim })
    const { run, refusal } = await reply.catch(async (error: unknown) => {
      if (error instanceof ClaimLost) await this.#noteLate(orders)
      throw error
    })
    this.#run = run
    if (refusal?.refused === 'run_finished' || refusal?.refused === 'not_running')
      await this.#noteLate(orders)
    if (refusal !== null) this.#stand(refusal)
    return run
  }

  /** The run can be told nothing more: what steps used that were not told is paid by itself. */
  async abandon(): Promise<void> {
    await this.#noteLate(this.#deferred.splice(0))
  }

  async #noteLate(orders: readonly Order[]): Promise<void> {
    const usages = orders.flatMap(({ command }) => {
      if (command.type !== 'end_step') return []
      const { step, model, usage } = command
      return [{ step, model, usage }]
    })
    await this.#options.noteLate(this.#run.facts, usages)
  }

  /** The last word about work that has stopped; a step that was only about to begin is not begun. */
  conclude(command: WorkCommand): Promise<Run> {
    this.#forgetBegun()
    return this.send(command)
  }

  /** Gives the run back for another worker to go on with; it is no strike against the run. */
  async handBack(): Promise<void> {
    this.#forgetBegun()
    await this.flush()
    await this.#options.mailboxes.send(this.#run.facts.id, {
      orders: [{ command: { type: 'hand_back' } }],
      claim: this.#options.claim,
      holder: { claim: null, workerId: null, handedBack: true },
    })
  }

  #forgetBegun(): void {
    const begun = this.#deferred.findIndex(({ command }) => command.type === 'begin_step')
    if (begun >= 0) this.#deferred.splice(begun)
  }

  /** A refusal is an end, of the work or of the run. */
  #stand(refusal: Refusal): never {
    switch (refusal.refused) {
      case 'limit':
        throw new LimitReached(refusal.reason, refusal.message)
      case 'cancel_requested':
        this.stop('canceled')
        throw new ClaimLost('A cancel was requested.')
      case 'run_finished':
      case 'not_running':
        this.stop('finished')
        throw new ClaimLost('The run is no longer running.')
    }
  }

  async journal(): Promise<JournalEntry[]> {
    // Entries come with steps: most runs are asked for their journal before they have any.
    if (this.#run.begunStep === 0) return []
    const all = await this.#options.readJournal(this.#run.facts.id)
    return all.filter(
      (entry) =>
        !isForgotten(this.#run, entry.step) &&
        !(entry.kind === 'tool' && this.isBeforeClaim(entry.step) && entry.step > this.#options.resumePoint),
    )
  }

  draft(text: string): void {
    this.#options.onDraft(this.#run.facts.id, text)
  }

  /** Steps begun before this claim; what came after is this claim's own work and in the workspace. */
  private isBeforeClaim(step: number): boolean {
    return step <= this.#options.run.begunStep
  }
}
