/**
 * Owns: the runs this process works on.
 * Invariants: a run is performed at most once at a time here; a run leaves the bench only when nothing of it
 * works any more; a hand-back is sent after that, never before.
 * Leaves to others: which runs to take (claims), what working means (the performer).
 */
import type { JournalEntry } from '../domain/agent.ts'
import { timeLimit } from '../domain/ends.ts'
import type { RunId } from '../domain/facts.ts'
import { isFinal } from '../domain/lifecycle.ts'
import { ClaimLost, isOver, LimitReached, type Performer } from '../domain/performer.ts'
import { type Run, stageOf } from '../domain/run.ts'
import { DatabaseError } from '../storage/database-error.ts'
import { Claim, type StopReason } from './held-run.ts'
import type { NoteLate } from './late-usage.ts'
import type { Mailboxes } from './mailbox.ts'

export interface Log {
  error(facts: object, sentence: string): void
  warn(facts: object, sentence: string): void
}

export interface WorkbenchOptions {
  performer: Performer
  mailboxes: Mailboxes
  slots: number
  readJournal: (id: RunId) => Promise<JournalEntry[]>
  onDraft: (id: RunId, text: string) => void
  noteLate: NoteLate
  /** Called whenever a slot becomes free. */
  onFree: () => void
  log: Log
}

/** A run that was claimed, to be put to work. */
interface Taken {
  run: Run
  token: string
  resumePoint: number
}

export class Workbench {
  readonly #options: WorkbenchOptions
  readonly #work = new Map<RunId, { claim: Claim; done: Promise<void> }>()
  /** Claims under way. */
  readonly #filling = new Set<Promise<boolean>>()
  /** What goes after the end of runs that nobody worked on. */
  readonly #forgetting = new Set<Promise<void>>()
  #draining = false

  constructor(options: WorkbenchOptions) {
    this.#options = options
  }

  /** Slots that neither work nor are promised to a claim under way. */
  get free(): number {
    return this.#draining ? 0 : this.#options.slots - this.#work.size - this.#filling.size
  }

  get isIdle(): boolean {
    return this.#work.size === 0 && this.#filling.size === 0
  }

  has(id: RunId): boolean {
    return this.#work.has(id)
  }

  ids(): RunId[] {
    return [...this.#work.keys()]
  }

  /** Keeps a slot while `claiming` is under way; what it claims is put to work. */
  async fill(claiming: () => Promise<Taken | null>): Promise<boolean> {
    if (this.free <= 0) return false
    const filling = claiming().then((taken) => {
      if (taken !== null) this.#perform(taken)
      return taken !== null
    })
    this.#filling.add(filling)
    return filling.finally(() => this.#filling.delete(filling))
  }

  #perform({ run, token, resumePoint }: Taken): void {
    const { mailboxes, readJournal, onDraft, noteLate } = this.#options
    const claim = new Claim({ run, claim: token, mailboxes, readJournal, resumePoint, onDraft, noteLate })
    if (this.#draining) claim.stop('draining')
    const done = this.#workOn(claim)
      .then(() => (isOver(claim) ? this.#forget(claim.run) : undefined))
      .finally(() => {
        this.#work.delete(run.facts.id)
        this.#options.onFree()
      })
    this.#work.set(run.facts.id, { claim, done })
  }

  async #workOn(claim: Claim): Promise<void> {
    const { performer, log } = this.#options
    const runId = claim.run.facts.id
    try {
      if (!claim.signal.aborted) await performer.perform(claim)
    } catch (error) {
      if (!(error instanceof ClaimLost) && !claim.signal.aborted) {
        await (isPassing(error) ? this.#giveUp(claim, error) : this.#fail(claim, error))
        return
      }
    }
    try {
      await this.#conclude(claim)
    } catch (error) {
      if (!(error instanceof ClaimLost))
        log.error({ runId, err: error }, 'A run could not be put down; its lease decides.')
    }
  }

  /** The database was away under the work, which is not the run's fault: somebody goes on when it is back. */
  async #giveUp(claim: Claim, error: unknown): Promise<void> {
    const runId = claim.run.facts.id
    this.#options.log.warn(
      { runId, err: error },
      'Work on a run lost its database; the run is taken up again.',
    )
    await claim.handBack().catch((failure: unknown) => {
      if (!(failure instanceof ClaimLost))
        this.#options.log.error({ runId, err: failure }, 'A run could not be put down; its lease decides.')
    })
  }

  async #fail(claim: Claim, error: unknown): Promise<void> {
    const { log } = this.#options
    const runId = claim.run.facts.id
    const limit = error instanceof LimitReached ? error : null
    if (limit === null) log.error({ runId, err: error }, 'Work on a run ended in an error of ours.')
    const message = limit?.message ?? 'The gateway met an error of its own while it worked on the run.'
    try {
      await claim.conclude({
        type: 'fail',
        reason: limit?.reason ?? 'system_error',
        stage: stageOf(claim.run),
        message,
      })
    } catch (failure) {
      if (!(failure instanceof ClaimLost))
        log.error({ runId, err: failure }, 'The end of a run could not be written.')
    }
  }

  /** Work has stopped: says so where it was asked for, or gives the run back. */
  async #conclude(claim: Claim): Promise<void> {
    if (isFinal(claim.run.state)) return
    switch (claim.stopReason) {
      case 'canceled':
        await claim.conclude({ type: 'stopped', how: claim.how })
        return
      case 'overdue':
        await claim.conclude({ type: 'fail', ...timeLimit(claim.run), how: claim.how })
        return
      case 'draining':
        await claim.handBack()
        return
      case 'finished':
      case 'lost':
      case 'fenced':
        await claim.abandon()
        return
      case null:
        await this.#fail(claim, new Error('The performer left a run that is not final.'))
    }
  }

  /** After the last word, which may be ours: only then is it known whether anybody goes on with the run. */
  async #forget(run: Run): Promise<void> {
    const { performer, log } = this.#options
    await performer.forget?.(run).catch((error: unknown) => {
      log.error({ runId: run.facts.id, err: error }, 'What is left of a run could not be removed.')
    })
  }

  /** A run has ended: work on it stops; where none is, an earlier attempt may have left something here. */
  ended(run: Run): void {
    const work = this.#work.get(run.facts.id)
    if (work !== undefined) work.claim.stop('finished')
    else if (run.startedAt !== null) {
      const forgetting = this.#forget(run).finally(() => this.#forgetting.delete(forgetting))
      this.#forgetting.add(forgetting)
    }
  }

  stop(id: RunId, reason: StopReason): void {
    this.#work.get(id)?.claim.stop(reason)
  }

  stopAll(reason: StopReason): void {
    for (const { claim } of this.#work.values()) claim.stop(reason)
  }

  /** Takes nothing more, hands back what it has, and resolves when nothing works here. */
  async drain(): Promise<void> {
    this.#draining = true
    this.stopAll('draining')
    // What is just being taken is handed back too.
    while (!this.isIdle) {
      await Promise.allSettled([...this.#filling, ...[...this.#work.values()].map(({ done }) => done)])
    }
    await Promise.all(this.#forgetting)
  }
}

const isPassing = (error: unknown): boolean => error instanceof DatabaseError && error.isTransient
