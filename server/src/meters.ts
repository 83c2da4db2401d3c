import { monitorEventLoopDelay } from 'node:perf_hooks'
import { isFinal } from './domain/lifecycle.ts'
import { MICRO_PER_CREDIT } from './domain/money.ts'
import type { Refused } from './engine/engine.ts'
import type { Committed } from './engine/mailbox.ts'
import type { Counter, Gauge, Histogram, Metrics } from './lib/metrics.ts'
import { MASK_KINDS, type MaskKind } from './lib/redact.ts'
import type { Disk } from './storage/disk.ts'
import type { Figures } from './storage/figures.ts'
import type { AttemptOutcome } from './webhooks/relay.ts'

const BATCH_ROWS = [1, 2, 4, 8, 16, 32, 64]
const COMMIT_SECONDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1]
const REFUSALS: readonly Refused[] = ['no_credit', 'no_capacity', 'key_taken', 'fenced', 'reloaded']
const OUTCOMES: readonly AttemptOutcome[] = ['delivered', 'refused', 'gave_up', 'put_off']
const NANOSECONDS = 1e9

/** Every figure of this process that is not about HTTP. Labels take a few known values, never a caller's. */
export class Meters implements AsyncDisposable {
  readonly #batchRows: Histogram
  readonly #commitSeconds: Histogram
  readonly #refused: Counter
  readonly #leasesLost: Counter
  readonly #ended: Counter
  readonly #charged: Counter
  readonly #attempts: Counter
  readonly #redactions: Counter
  readonly #purged: Counter
  readonly #swept: Counter
  readonly #runs: Gauge
  readonly #oldestQueued: Gauge
  readonly #oldestDue: Gauge
  readonly #oldestDelivery: Gauge
  readonly #workers: Gauge
  readonly #loopDelay: Gauge
  readonly #loopDelayMax: Gauge
  readonly #delay = monitorEventLoopDelay({ resolution: 10 })

  constructor(metrics: Metrics, disk: Disk) {
    const counter = (name: string, text: string): Counter => metrics.counter(`agentgate_${name}`, text)
    const gauge = (name: string, text: string): Gauge => metrics.gauge(`agentgate_${name}`, text)
    this.#batchRows = metrics.histogram('agentgate_commit_batch_size', 'Decisions per commit.', BATCH_ROWS)
    this.#commitSeconds = metrics.histogram('agentgate_commit_seconds', 'Time of a commit.', COMMIT_SECONDS)
    this.#refused = counter('writes_refused_total', 'Decisions that were not written, by why.')
    this.#leasesLost = counter('leases_lost_total', 'Times this process could not renew its lease in time.')
    this.#ended = counter('runs_ended_total', 'Runs that ended here, by mode, state and reason.')
    this.#charged = counter('credits_charged_total', 'Credits charged for runs that ended here.')
    this.#attempts = counter(
      'webhook_attempts_total',
      'Attempts of webhook deliveries, by what came of them.',
    )
    this.#redactions = counter('redactions_total', 'Secrets masked in texts, by how they were told.')
    this.#purged = counter('purged_runs_total', 'Runs whose log was given up for removal after its time.')
    this.#swept = counter('swept_blobs_total', 'Blobs removed because nothing named them.')
    this.#runs = gauge('runs', 'Runs that wait for a worker or are held by one, by mode and state.')
    this.#oldestQueued = gauge('queue_oldest_seconds', 'Age of the run that has waited longest, by mode.')
    this.#oldestDue = gauge('due_oldest_seconds', 'How long the most overdue deadline of a run has passed.')
    this.#oldestDelivery = gauge(
      'delivery_oldest_seconds',
      'How long the most overdue delivery has been due.',
    )
    this.#workers = gauge('workers', 'Processes with a lease.')
    this.#loopDelay = gauge('event_loop_delay_seconds', 'Delay of the event loop, 99th percentile of 10 s.')
    this.#loopDelayMax = gauge('event_loop_delay_max_seconds', 'Longest delay of the event loop in 10 s.')
    metrics.observed('agentgate_disk_free_bytes', 'Free space of the data folder.', () => disk.freeBytes)
    const residentBytes = (): number => process.memoryUsage.rss()
    metrics.observed('process_resident_memory_bytes', 'Resident memory of this process.', residentBytes)
    this.#zero()
    this.#delay.enable()
  }

  /** A counter that has never counted is shown as 0, so that its first step is seen as one. */
  #zero(): void {
    for (const why of REFUSALS) this.#refused.add({ why }, 0)
    for (const outcome of OUTCOMES) this.#attempts.add({ outcome }, 0)
    for (const kind of MASK_KINDS) this.#redactions.add({ kind }, 0)
    const plain = [this.#leasesLost, this.#charged, this.#purged, this.#swept]
    for (const each of plain) each.add({}, 0)
  }

  batch(rows: number, ms: number): void {
    this.#batchRows.observe(rows)
    this.#commitSeconds.observe(ms / 1000)
  }

  committed({ run, lines }: Committed): void {
    const { mode } = run.facts
    if (!isFinal(run.state) || !lines.some(({ type }) => type === `run.${run.state}`)) return
    this.#ended.add({ mode, state: run.state, reason: run.statusReason })
    this.#charged.add({}, run.chargedMicro / MICRO_PER_CREDIT)
  }

  refused(why: Refused): void {
    this.#refused.add({ why })
  }

  leaseLost(): void {
    this.#leasesLost.add()
  }

  attempted(outcome: AttemptOutcome): void {
    this.#attempts.add({ outcome })
  }

  masked(kind: MaskKind, count: number): void {
    this.#redactions.add({ kind }, count)
  }

  purged(runs: number): void {
    this.#purged.add({}, runs)
  }

  swept(blobs: number): void {
    this.#swept.add({}, blobs)
  }

  /** To be called every 10 s. */
  sample({ modes, oldestDueSeconds, oldestDeliverySeconds, workers }: Figures): void {
    for (const { mode, queued, running, oldestQueuedSeconds } of modes) {
      this.#runs.set(queued, { mode, state: 'queued' })
      this.#runs.set(running, { mode, state: 'running' })
      this.#oldestQueued.set(oldestQueuedSeconds, { mode })
    }
    this.#oldestDue.set(oldestDueSeconds)
    this.#oldestDelivery.set(oldestDeliverySeconds)
    this.#workers.set(workers)
    this.#loopDelay.set(this.#delay.percentile(99) / NANOSECONDS)
    this.#loopDelayMax.set(this.#delay.max / NANOSECONDS)
    this.#delay.reset()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#delay.disable()
  }
}
