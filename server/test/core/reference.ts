import { expect } from 'vitest'
import type { Database } from '../../src/storage/database.ts'
import type { Answer, Asking, Body } from '../harness/gateways.ts'
import { findingsOf } from './engine-room.ts'

export const FINAL: readonly string[] = ['completed', 'failed', 'canceled']

/** What the reference knows of a run that was acknowledged. */
export interface Known {
  id: string
  steps: number
  canceled: boolean
  /** `<seq> <event id>`, one for each event seen so far. */
  log: string[]
  /** The answer about the final run, which is the same ever after. */
  end: string | null
}

interface ReferenceOptions {
  /** Asks any of the gateways. */
  ask: (path: string, asking?: Asking) => Promise<Answer>
  database: Database
  cap: number
  credits: number
}

/** What was acknowledged, and what must hold of it whichever gateway is asked. */
export class Reference {
  readonly runs = new Map<string, Known>()
  /** By idempotency key, what was created with it. */
  readonly keys = new Map<string, { id: string; steps: number }>()
  /** Credits there ever were. */
  granted: number
  readonly #options: ReferenceOptions

  constructor(options: ReferenceOptions) {
    this.#options = options
    this.granted = options.credits
  }

  /** Runs of which the end has not been seen. */
  get open(): Known[] {
    return [...this.runs.values()].filter(({ end }) => end === null)
  }

  learn(id: string, steps: number): void {
    if (!this.runs.has(id)) this.runs.set(id, { id, steps, canceled: false, log: [], end: null })
  }

  /** The cap, the account and the number of runs as they stand; the newest runs as clients see them (1, 2, 6, 7). */
  async check(): Promise<void> {
    const { database, cap } = this.#options
    const [now] = await database.query<{ runs: number; running: number; available: number }>(
      `select (select count(*) from run)::int as runs, (select count(*) from run where state = 'running')::int as running,
        (select min(included_micro + purchased_micro - reserved_micro - spent_micro) from account)::float8 as available`,
    )
    expect(now?.running).toBeLessThanOrEqual(cap)
    expect(now?.runs).toBe(this.runs.size)
    expect(now?.available).toBeGreaterThanOrEqual(0)
    for (const known of this.open.slice(0, 2)) await this.look(known)
  }

  /** Whichever gateway is asked: the log only grows, in order and without holes, and what is final stays. */
  async look(known: Known): Promise<void> {
    const path = `/v1/runs/${known.id}`
    const run = await this.#options.ask(path)
    expect(run.status).toBe(200)
    const events = await this.#options.ask(`${path}/events?limit=100`)
    const seen = events.body.data
    expect(seen.map(({ seq }) => seq)).toEqual(seen.map((_, i) => i + 1))
    const log = seen.map(({ seq, id }) => `${seq} ${id}`)
    expect(log.slice(0, known.log.length)).toEqual(known.log)
    known.log = log
    const { state } = run.body
    if (known.end !== null) expect(JSON.stringify(run.body)).toBe(known.end)
    if (!FINAL.includes(state) || known.end !== null) return
    known.end = JSON.stringify(run.body)
    const types = seen.map(({ type }) => type)
    checkEnd(known, run.body, types)
  }

  /** Lets everything come to its end, and looks at all of it once more. */
  async finish(): Promise<void> {
    const { ask, database } = this.#options
    for (const known of this.runs.values()) {
      while (known.end === null) {
        await ask(`/v1/runs/${known.id}`, { headers: { prefer: 'wait=10' } })
        await this.look(known)
      }
      await this.look(known)
    }
    expect(await findingsOf(database)).toEqual([])
    const { body } = await ask('/v1/credits')
    const charged = [...this.runs.values()].map(({ end }) => JSON.parse(end ?? '').cost.credits)
    const spent = charged.reduce((sum: number, credits: number) => sum + credits, 0)
    expect([body.reservedCreditsCents, body.totalCreditsCents]).toEqual([0, this.granted - spent])
  }
}

function checkEnd(known: Known, run: Body, types: readonly string[]): void {
  expect(types.filter((type) => FINAL.includes(type.replace('run.', '')))).toEqual([`run.${run.state}`])
  expect(types.at(-1)).toBe(`run.${run.state}`)
  if (run.state === 'canceled') expect(known.canceled).toBe(true)
  if (run.state === 'completed') {
    expect([run.usage.steps, run.output]).toEqual([known.steps, `step ${known.steps}`])
  }
  // Of what a kill can do to a run, only the last strike ends it.
  if (run.state === 'failed') expect(run.statusReason).toBe('agent_error')
}
