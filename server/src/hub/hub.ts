/**
 * Owns: who in this process waits for news of which run.
 * Invariants: a waiter that asked before a commit was announced hears of it; nobody is kept after its time.
 * Leaves to others: what the news says (it is in the log), and runs that other processes move (the poll).
 */
import type { RunId } from '../domain/facts.ts'
import { isFinal } from '../domain/lifecycle.ts'
import type { Run } from '../domain/run.ts'
import type { Clock } from '../lib/clock.ts'

export interface HubOptions {
  clock: Clock
  /** How the run stands; undefined when there is none. */
  readRun: (id: RunId) => Promise<Run | undefined>
}

/** How often a waiter looks for what another process did. */
const POLL_MS = 1_000
/** Runs that need attention are remembered for whoever asks a moment too late: so many, and so long. */
const REMEMBERED = 1_000
const REMEMBERED_MS = 5_000

/** Whether a caller who waits has something to do: the run is final, or asks for tool results or a decision. */
export const needsAttention = ({ state }: Run): boolean =>
  isFinal(state) || state === 'tool_required' || state === 'waiting_approval'

interface Waiter {
  look: (run: Run | undefined) => void
}

export class Hub {
  readonly #options: HubOptions
  readonly #waiters = new Map<RunId, Set<Waiter>>()
  /** In the order of their announcement. A run may hold a megabyte of input, so none stays without need. */
  readonly #settled = new Map<RunId, { run: Run; until: number }>()

  constructor(options: HubOptions) {
    this.#options = options
  }

  /** Callers that wait right now. */
  get waiting(): number {
    return this.#waiters.size
  }

  /** Runs that are remembered right now. */
  get remembered(): number {
    return this.#settled.size
  }

  /** Called after each commit with the run as it became. */
  announce(run: Run): void {
    const { id } = run.facts
    this.#settled.delete(id)
    if (!needsAttention(run)) return
    this.#settled.set(id, { run, until: this.#options.clock.monotonic() + REMEMBERED_MS })
    this.#forgetOld()
    for (const { look } of this.#waiters.get(id) ?? []) look(run)
  }

  #forgetOld(): void {
    const now = this.#options.clock.monotonic()
    for (const [id, { until }] of this.#settled) {
      if (until > now && this.#settled.size <= REMEMBERED) break
      this.#settled.delete(id)
    }
  }

  /** Lets the waiters of these runs look at the database: another process moved them. */
  hint(ids: Iterable<RunId> | 'all'): void {
    const moved = ids === 'all' ? [...this.#waiters.keys()] : ids
    for (const id of moved) for (const { look } of this.#waiters.get(id) ?? []) look(undefined)
  }

  /** The run when it needs attention; undefined when the time is over or the signal is aborted before. */
  async waitForRun(
    id: RunId,
    { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
  ): Promise<Run | undefined> {
    this.#forgetOld()
    const until = this.#options.clock.monotonic() + timeoutMs
    while (!signal.aborted) {
      const news = this.#nextNews(id, Math.min(until - this.#options.clock.monotonic(), POLL_MS), signal)
      const run = this.#settled.get(id)?.run ?? (await this.#options.readRun(id))
      if (run === undefined || needsAttention(run)) {
        news.forget()
        return run
      }
      const settled = await news.came
      if (settled !== undefined) return settled
      if (this.#options.clock.monotonic() >= until) return undefined
    }
    return undefined
  }

  /** Resolves with a run that was announced, or undefined after `ms`, a hint or an abort. */
  #nextNews(
    id: RunId,
    ms: number,
    signal: AbortSignal,
  ): { came: Promise<Run | undefined>; forget: () => void } {
    const waiters = this.#waiters.get(id) ?? new Set()
    this.#waiters.set(id, waiters)
    let forget = (): void => undefined
    const came = new Promise<Run | undefined>((resolve) => {
      const look = (run: Run | undefined): void => {
        forget()
        resolve(run)
      }
      const giveUp = (): void => look(undefined)
      const waiter = { look }
      const forgetTimer = this.#options.clock.after(Math.max(0, ms), giveUp)
      signal.addEventListener('abort', giveUp, { once: true })
      waiters.add(waiter)
      forget = () => {
        waiters.delete(waiter)
        if (waiters.size === 0 && this.#waiters.get(id) === waiters) this.#waiters.delete(id)
        forgetTimer()
        signal.removeEventListener('abort', giveUp)
      }
    })
    return { came, forget }
  }
}
