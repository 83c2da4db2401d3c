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
  /** How the run stands in the database; undefined when there is none. */
  readRun: (id: RunId) => Promise<Run | undefined>
}

/** How often a waiter looks for what another process did. */
const POLL_MS = 1_000

/** Whether a caller who waits has something to do: the run is final, or asks for tool results or a decision. */
export const needsAttention = ({ state }: Run): boolean =>
  isFinal(state) || state === 'tool_required' || state === 'waiting_approval'

export class Hub {
  readonly #options: HubOptions
  readonly #waiters = new Map<RunId, Set<() => void>>()

  constructor(options: HubOptions) {
    this.#options = options
  }

  /** Called after each commit with the run as it became. */
  announce(run: Run): void {
    if (!needsAttention(run)) return
    for (const wake of this.#waiters.get(run.facts.id) ?? []) wake()
  }

  /** Resolves when the run needs attention, when the time is over, or when the signal is aborted. */
  async waitForRun(
    id: RunId,
    { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
  ): Promise<void> {
    const { clock, readRun } = this.#options
    const until = clock.monotonic() + timeoutMs
    while (!signal.aborted) {
      const news = this.#next(id)
      const left = until - clock.monotonic()
      const run = await readRun(id)
      if (run === undefined || needsAttention(run) || left <= 0) {
        news.forget()
        return
      }
      await this.#firstOf(news, Math.min(left, POLL_MS), signal)
    }
  }

  #next(id: RunId): { came: Promise<void>; forget: () => void } {
    const waiters = this.#waiters.get(id) ?? new Set()
    this.#waiters.set(id, waiters)
    let wake = (): void => undefined
    const came = new Promise<void>((resolve) => {
      wake = resolve
    })
    waiters.add(wake)
    const forget = (): void => {
      waiters.delete(wake)
      if (waiters.size === 0) this.#waiters.delete(id)
    }
    return { came, forget }
  }

  async #firstOf(
    news: { came: Promise<void>; forget: () => void },
    ms: number,
    signal: AbortSignal,
  ): Promise<void> {
    let end = (): void => undefined
    const timeIsUp = new Promise<void>((resolve) => {
      end = resolve
    })
    const forgetTimer = this.#options.clock.after(ms, end)
    signal.addEventListener('abort', end, { once: true })
    await Promise.race([news.came, timeIsUp])
    forgetTimer()
    signal.removeEventListener('abort', end)
    news.forget()
  }
}
