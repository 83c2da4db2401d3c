/**
 * Random requests at two gateways, real processes on one database, against a small reference: what was acknowledged
 * is there, stays as it was, and happened once, whichever process answers and whichever is killed.
 * `AGENTGATE_TEST_MODEL_STEPS=100000` is the long version.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { expect, test } from 'vitest'
import { builtProgram } from '../../../scripts/build.mjs'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import type { ReadyLine } from '../crash/crash-entry.ts'
import { seeded } from '../crash/crash-rounds.ts'
import { provideTestDatabase } from '../harness/postgres.ts'
import { findingsOf } from './engine-room.ts'

const CAP = 4
const FINAL: readonly string[] = ['completed', 'failed', 'canceled']

/** Whatever is read of an answer: a run, a page, an error or a balance. */
interface Body {
  id: string
  state: string
  statusReason: string
  input: unknown
  output: unknown
  constraints: { maxCredits: number }
  usage: { steps: number }
  retryOf: string | null
  cancelRequestedAt: string | null
  data: { id: string; seq: number; type: string; state: string; createdAt: string }[]
  error: { code: string } | null
  reservedCreditsCents: number
  totalCreditsCents: number
}

interface Answer {
  status: number
  body: Body
}

/** A gateway in a process of its own, with a folder of its own. */
class Gateway {
  readonly #environment: Record<string, string>
  #child: ChildProcess | null = null
  url = ''
  liveKey: string | null = null

  constructor(environment: Record<string, string>) {
    this.#environment = environment
  }

  async start(): Promise<void> {
    const entry = await builtProgram('server/test/crash/crash-entry.ts')
    const child = spawn(process.execPath, [entry], {
      env: this.#environment,
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#child = child
    for await (const line of createInterface({ input: child.stdout })) {
      const ready: ReadyLine = JSON.parse(line)
      this.url = ready.url
      this.liveKey ??= ready.liveKey
      return
    }
    throw new Error('The gateway ended before it was ready.')
  }

  /** Ends the process, in order or as a crash does. */
  async end(how: 'stop' | 'kill'): Promise<void> {
    const child = this.#child
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    if (how === 'kill') child.kill('SIGKILL')
    else child.stdin?.end()
    await gone
  }
}

/** Two gateways on one database, and a client that asks again until it is answered. */
class House {
  readonly gateways: Gateway[]
  readonly database: Database
  readonly #folders: string[]

  private constructor(gateways: Gateway[], database: Database, folders: string[]) {
    this.gateways = gateways
    this.database = database
    this.#folders = folders
  }

  static async open(): Promise<House> {
    const url = await provideTestDatabase()
    const database = await openDatabase(url, { maxReaders: 4, statementTimeoutMs: 0 })
    const folders = await Promise.all([1, 2].map(() => mkdtemp('/var/tmp/agentgate-model-')))
    const gateways = folders.map(
      (folder) =>
        new Gateway({
          PATH: process.env['PATH'] ?? '',
          HOME: process.env['HOME'] ?? '/',
          LOG_LEVEL: process.env['AGENTGATE_TEST_LOG'] || 'fatal',
          PORT: '0',
          DATABASE_URL: url,
          AGENTGATE_DATA_DIR: folder,
          AGENTGATE_MASTER_KEY: Buffer.alloc(32, 5).toString('base64'),
          AGENTGATE_JAIL: 'none',
          AGENTGATE_JAIL_SLOTS: '1',
          AGENTGATE_SLOTS: '3',
          AGENTGATE_MAX_CONCURRENT_RUNS: String(CAP),
          AGENTGATE_INITIAL_CREDITS: '50',
          AGENTGATE_LEASE_SECONDS: '2',
          AGENTGATE_RATE_READS: '10000000',
          AGENTGATE_RATE_WRITES: '10000000',
          AGENTGATE_RATE_SUBMISSIONS: '10000000',
          AGENTGATE_RATE_CONTROL: '10000000',
        }),
    )
    for (const gateway of gateways) await gateway.start()
    return new House(gateways, database, folders)
  }

  /** Of the first answer there is: a gateway that is killed gives none. */
  async ask(
    gateway: Gateway,
    path: string,
    options: { body?: object; headers?: object } = {},
  ): Promise<Answer> {
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await fetch(`${gateway.url}${path}`, {
          method: options.body === undefined ? 'GET' : 'POST',
          headers: {
            authorization: `Bearer ${this.gateways[0]?.liveKey}`,
            'content-type': 'application/json',
            ...options.headers,
          },
          ...(options.body && { body: JSON.stringify(options.body) }),
        })
        const text = await answer.text()
        if (answer.status !== 503) return { status: answer.status, body: JSON.parse(text) }
      } catch (error) {
        if (attempt === 2_400) throw error
      }
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.gateways.map((gateway) => gateway.end('stop')))
    await this.database.close()
    await Promise.all(this.#folders.map((folder) => rm(folder, { recursive: true, force: true })))
  }
}

/** What the reference knows of a run that was acknowledged. */
interface Known {
  id: string
  steps: number
  canceled: boolean
  /** `<seq> <event id>`, one for each event seen so far. */
  log: string[]
  /** The answer about the final run, which is the same ever after. */
  end: string | null
}

class Play {
  readonly runs = new Map<string, Known>()
  readonly keys = new Map<string, { id: string; steps: number }>()
  readonly #house: House
  readonly #random: () => number
  #keysUsed = 0
  #granted = 50

  constructor(house: House, random: () => number) {
    this.#house = house
    this.#random = random
  }

  #below = (n: number): number => Math.floor(this.#random() * n)

  #pick<T>(of: readonly T[]): T | undefined {
    return of[this.#below(of.length)]
  }

  get #gateway(): Gateway {
    const one = this.#pick(this.#house.gateways)
    if (one === undefined) throw new Error('two gateways are at work')
    return one
  }

  get #open(): Known[] {
    return [...this.runs.values()].filter(({ end }) => end === null)
  }

  /** One random request, or two at once; then whatever must hold. */
  async step(): Promise<string> {
    const requests = this.#random() < 0.25 ? [this.#request(), this.#request()] : [this.#request()]
    const names = await Promise.all(requests)
    await this.#check()
    return names.join(' + ')
  }

  #request(): Promise<string> {
    const dice = this.#random()
    if (dice < 0.3) return this.#create(`key-${++this.#keysUsed}`, this.#below(4))
    if (dice < 0.36) return this.#createAgain()
    if (dice < 0.5) return this.#cancel()
    if (dice < 0.58) return this.#retry()
    if (dice < 0.7) return this.#list()
    if (dice < 0.86) return this.#wait()
    if (dice < 0.91) return this.#grant()
    return dice < 0.995 ? this.#read() : this.#kill()
  }

  async #create(key: string, steps: number): Promise<string> {
    const delayMs = this.#below(12)
    const script = Array.from({ length: steps + 1 }, (_, n) => ({
      text: `step ${n + 1}`,
      delayMs,
      ...(n < steps && { calls: [{ tool: 'none', arguments: { n } }] }),
    }))
    const body = {
      agent: 'scripted',
      input: { steps: script },
      constraints: { maxCredits: 5 },
      metadata: { key },
    }
    const { status, body: run } = await this.#post('/v1/runs', key, body)
    if (status === 402) return 'create refused'
    expect(status, JSON.stringify(run)).toBe(201)
    const known = this.keys.get(key)
    if (known !== undefined) expect(run.id).toBe(known.id)
    this.#learn(run.id, steps + 1)
    this.keys.set(key, { id: run.id, steps })
    return 'create'
  }

  /** The same body gives the run it gave before; another body is refused. */
  async #createAgain(): Promise<string> {
    const [key, known] = this.#pick([...this.keys.entries()].slice(-50)) ?? []
    if (key === undefined || known === undefined) return 'nothing to repeat'
    const stored = await this.#house.ask(this.#gateway, `/v1/runs/${known.id}`)
    const { input, constraints } = stored.body
    const body = {
      agent: 'scripted',
      input,
      constraints: { maxCredits: constraints.maxCredits },
      metadata: { key },
    }
    const same = await this.#post('/v1/runs', key, body)
    expect([same.status, same.body.id]).toEqual([201, known.id])
    const other = await this.#post('/v1/runs', key, { ...body, metadata: { key: 'another' } })
    expect([other.status, other.body.error?.code]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED'])
    return 'create again'
  }

  async #cancel(): Promise<string> {
    const known = this.#pick([...this.runs.values()].slice(-20))
    if (known === undefined) return 'nothing to cancel'
    // Known before the answer: another request may see the effect first.
    const before = known.canceled
    known.canceled = true
    const { status, body } = await this.#house.ask(this.#gateway, `/v1/runs/${known.id}/cancel`, { body: {} })
    if (status === 409) {
      expect(body.error?.code).toBe('RUN_FINISHED')
      known.canceled = before
      return 'cancel refused'
    }
    expect([200, 202]).toContain(status)
    expect(body.state === 'canceled' || body.cancelRequestedAt !== null).toBe(true)
    return 'cancel'
  }

  async #retry(): Promise<string> {
    const known = this.#pick([...this.runs.values()].slice(-30))
    if (known === undefined) return 'nothing to retry'
    const key = `retry-${++this.#keysUsed}`
    const { status, body } = await this.#post(`/v1/runs/${known.id}/retry`, key, {})
    if (status === 402) return 'retry refused'
    if (status === 409) {
      expect(body.error?.code).toBe('CONFLICT')
      return 'retry refused'
    }
    expect([status, body.retryOf]).toEqual([201, known.id])
    this.#learn(body.id, known.steps)
    return 'retry'
  }

  #post(path: string, key: string, body: object): Promise<Answer> {
    return this.#house.ask(this.#gateway, path, { body, headers: { 'idempotency-key': key } })
  }

  #learn(id: string, steps: number): void {
    if (!this.runs.has(id)) this.runs.set(id, { id, steps, canceled: false, log: [], end: null })
  }

  /** Newest first, each once, none of another state, and nothing acknowledged is missing. */
  async #list(): Promise<string> {
    const newest = [...this.runs.keys()].slice(-5)
    const page = await this.#house.ask(this.#gateway, '/v1/runs?limit=50')
    const ids = page.body.data.map(({ id }) => id)
    expect(new Set(ids).size).toBe(ids.length)
    for (const id of newest) expect(ids).toContain(id)
    const moments = page.body.data.map(({ createdAt }) => createdAt)
    expect(moments).toEqual(moments.toSorted().reverse())
    const state = this.#pick(['queued', 'running', ...FINAL]) ?? ''
    const filtered = await this.#house.ask(this.#gateway, `/v1/runs?limit=20&state=${state}`)
    for (const run of filtered.body.data) expect(run.state).toBe(state)
    return 'list'
  }

  async #wait(): Promise<string> {
    const known = this.#pick(this.#open)
    if (known === undefined) return 'nothing to wait for'
    const { status, body } = await this.#house.ask(this.#gateway, `/v1/runs/${known.id}`, {
      headers: { prefer: 'wait=1' },
    })
    expect([status, body.id]).toEqual([200, known.id])
    return 'wait'
  }

  async #grant(): Promise<string> {
    const amount = 1 + this.#below(30)
    const key = `grant-${++this.#keysUsed}`
    const { status } = await this.#post('/v1/credits/grants', key, { amountCents: amount, reason: 'more' })
    expect(status).toBe(201)
    this.#granted += amount
    return 'grant'
  }

  async #read(): Promise<string> {
    const known = this.#pick([...this.runs.values()])
    if (known !== undefined) await this.#look(known)
    return 'read'
  }

  async #kill(): Promise<string> {
    const victim = this.#gateway
    await victim.end('kill')
    await victim.start()
    return 'kill'
  }

  /** The cap, the account and the number of runs as they stand; the newest runs as clients see them (1, 2, 6, 7). */
  async #check(): Promise<void> {
    const [now] = await this.#house.database.query<{ runs: number; running: number; available: number }>(
      `select (select count(*) from run)::int as runs, (select count(*) from run where state = 'running')::int as running,
        (select min(included_micro + purchased_micro - reserved_micro - spent_micro) from account)::float8 as available`,
    )
    expect(now?.running).toBeLessThanOrEqual(CAP)
    expect(now?.runs).toBe(this.runs.size)
    expect(now?.available).toBeGreaterThanOrEqual(0)
    for (const known of this.#open.slice(0, 2)) await this.#look(known)
  }

  /** Whichever gateway is asked: the log only grows, in order and without holes, and what is final stays. */
  async #look(known: Known): Promise<void> {
    const path = `/v1/runs/${known.id}`
    const run = await this.#house.ask(this.#gateway, path)
    expect(run.status).toBe(200)
    const events = await this.#house.ask(this.#gateway, `${path}/events?limit=100`)
    const seen = events.body.data
    expect(seen.map(({ seq }) => seq)).toEqual(seen.map((_, i) => i + 1))
    const log = seen.map(({ seq, id }) => `${seq} ${id}`)
    expect(log.slice(0, known.log.length)).toEqual(known.log)
    known.log = log
    const { state } = run.body
    if (known.end !== null) expect(JSON.stringify(run.body)).toBe(known.end)
    if (!FINAL.includes(state) || known.end !== null) return
    known.end = JSON.stringify(run.body)
    this.#checkEnd(
      known,
      run.body,
      seen.map(({ type }) => type),
    )
  }

  #checkEnd(known: Known, run: Body, types: readonly string[]): void {
    expect(types.filter((type) => FINAL.includes(type.replace('run.', '')))).toEqual([`run.${run.state}`])
    expect(types.at(-1)).toBe(`run.${run.state}`)
    if (run.state === 'canceled') expect(known.canceled).toBe(true)
    if (run.state === 'completed') {
      expect([run.usage.steps, run.output]).toEqual([known.steps, `step ${known.steps}`])
    }
    // Of what a kill can do to a run, only the third strike ends it.
    if (run.state === 'failed') expect(run.statusReason).toBe('agent_error')
  }

  /** Lets everything come to its end, and looks at all of it once more. */
  async finish(): Promise<void> {
    for (const known of this.runs.values()) {
      while (known.end === null) {
        const headers = { prefer: 'wait=10' }
        await this.#house.ask(this.#gateway, `/v1/runs/${known.id}`, { headers })
        await this.#look(known)
      }
      await this.#look(known)
    }
    expect(await findingsOf(this.#house.database)).toEqual([])
    const { body } = await this.#house.ask(this.#gateway, '/v1/credits')
    const charged = [...this.runs.values()].map(({ end }) => JSON.parse(end ?? '').cost.credits)
    const spent = charged.reduce((sum: number, credits: number) => sum + credits, 0)
    expect([body.reservedCreditsCents, body.totalCreditsCents]).toEqual([0, this.#granted - spent])
  }
}

const STEPS = Number(process.env['AGENTGATE_TEST_MODEL_STEPS'] ?? 120)
const SEED = Number(process.env['AGENTGATE_TEST_SEED'] ?? Date.now() % 1_000_000)

test(
  `any ${STEPS} requests at two gateways leave what a small reference says (seed ${SEED})`,
  async () => {
    const house = await House.open()
    const history: string[] = []
    try {
      const play = new Play(house, seeded(SEED))
      for (let i = 0; i < STEPS; i++) {
        history.push(await play.step())
        if (i % 1_000 === 999) expect(await findingsOf(house.database)).toEqual([])
      }
      await play.finish()
    } catch (error) {
      const last = history.slice(-20).join(', ')
      throw new Error(`seed ${SEED}, request ${history.length}: … ${last}`, { cause: error })
    } finally {
      await house.close()
    }
    expect(history.join()).toMatch(/create.*cancel/)
  },
  60_000 + STEPS * 200,
)
