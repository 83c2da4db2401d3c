import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { MAX_STRIKES } from '../../src/domain/command.ts'
import { GateError } from '../../src/domain/error.ts'
import type { RunFacts, RunId } from '../../src/domain/facts.ts'
import { isFinal } from '../../src/domain/lifecycle.ts'
import type { Run } from '../../src/domain/run.ts'
import { sha256 } from '../../src/lib/hash.ts'
import { newId } from '../../src/lib/id.ts'
import { findAccount } from '../../src/storage/accounts.ts'
import { insertGrant } from '../../src/storage/credits.ts'
import { seeded } from '../crash/crash-rounds.ts'
import { report } from '../harness/report.ts'
import {
  type EngineRoom,
  factsOf,
  gatedPerformer,
  type OpenEngine,
  openEngineRoom,
  storedRun,
} from './engine-room.ts'
import { costing, MICRO, PRICES } from './priced-step.ts'

const RESERVE = 5
const EMPTY_LOG = sha256(Buffer.from(''))
const CAP = 4
/** One step that costs one credit. */
const oneStep = costing(() => ({ most: 1, cost: 1 }))

/** What the reference knows of a run. */
interface Known {
  id: RunId
  key: string | null
  canceled: boolean
  /** How often its worker died while it was held. */
  lastSeq: number
  /** Hash of the events up to `lastSeq`, which never changes. */
  log: string
  /** The whole run once it was final, which never changes. */
  end: string | null
}

interface Process extends OpenEngine {
  gates: ReturnType<typeof gatedPerformer>
}

/** The reference: what was acknowledged, and what must follow from it. */
class Model {
  readonly runs = new Map<RunId, Known>()
  readonly keys = new Map<string, RunId>()
  grantedMicro = 0

  add(id: RunId, key: string | null): void {
    this.runs.set(id, { id, key, canceled: false, lastSeq: 0, log: EMPTY_LOG, end: null })
    if (key !== null) this.keys.set(key, id)
  }

  get open(): Known[] {
    return [...this.runs.values()].filter(({ end }) => end === null)
  }
}

class Play {
  readonly model = new Model()
  readonly #room: EngineRoom
  readonly #organization: string
  readonly #random: () => number
  readonly #processes: Process[] = []
  /** Declared dead and still running: whatever they write must be refused. */
  readonly #zombies: Process[] = []

  private constructor(room: EngineRoom, organization: string, random: () => number) {
    this.#room = room
    this.#organization = organization
    this.#random = random
  }

  static async open(room: EngineRoom, random: () => number): Promise<Play> {
    const play = new Play(room, await room.organization(40), random)
    play.model.grantedMicro = 40 * MICRO
    for (let i = 0; i < 2; i++) play.#processes.push(await play.#start())
    return play
  }

  async #start(): Promise<Process> {
    const gates = gatedPerformer(oneStep)
    const capOf = ({ kind }: { kind: string }): number => (kind === 'organization' ? CAP : 1_000)
    return { ...(await this.#room.engine({ performer: gates, slots: 3, capOf })), gates }
  }

  #pick<T>(of: readonly T[]): T | undefined {
    return of[Math.floor(this.#random() * of.length)]
  }

  get #process(): Process {
    const one = this.#pick(this.#processes)
    if (one === undefined) throw new Error('two processes are at work')
    return one
  }

  /** One random command, or two at once. */
  async step(): Promise<string> {
    const commands = this.#random() < 0.2 ? [this.#command(), this.#command()] : [this.#command()]
    const names = await Promise.all(commands)
    await this.check()
    return names.join(' + ')
  }

  #command(): Promise<string> {
    const dice = this.#random()
    if (dice < 0.28) return this.#create(null)
    if (dice < 0.38) return this.#create(`key ${Math.floor(this.#random() * 1_000)}`)
    if (dice < 0.44) return this.#create(this.#pick([...this.model.keys.keys()]) ?? null)
    if (dice < 0.54) return this.#cancel()
    if (dice < 0.78) return this.#release()
    if (dice < 0.92) return this.#claim()
    if (dice < 0.96) return this.#grant()
    return dice < 0.98 ? this.#restart() : this.#bury()
  }

  async #create(key: string | null): Promise<string> {
    const known = key === null ? undefined : this.model.keys.get(key)
    const facts: RunFacts = factsOf(this.#organization, { reserveMicro: RESERVE * MICRO, prices: PRICES })
    const before = await this.#available()
    const idempotency = key === null ? null : { route: 'POST /v1/runs', key, bodyHash: 'a', tenantId: '' }
    try {
      const { run, replayed } = await this.#process.engine.createRun(facts, { idempotency })
      if (known !== undefined) expect(run.facts.id).toBe(known)
      if (!replayed) this.model.add(facts.id, key)
      else expect(this.model.runs.has(run.facts.id) || key !== null).toBe(true)
      return replayed ? 'replay' : 'create'
    } catch (error) {
      if (!(error instanceof GateError)) throw error
      expect(error.code).toBe('INSUFFICIENT_CREDITS')
      expect(known, 'a key that was answered is answered again').toBeUndefined()
      // Two creates at once may take each other's credit, never more than the two of them.
      expect(before).toBeLessThan(2 * RESERVE * MICRO)
      return 'create refused'
    }
  }

  async #cancel(): Promise<string> {
    const known = this.#pick([...this.model.runs.values()].slice(-30))
    if (known === undefined) return 'cancel nothing'
    try {
      const run = await this.#process.engine.cancelRun(known.id, 'key_1')
      known.canceled = true
      expect(run.state === 'canceled' || run.cancelRequestedAt !== null).toBe(true)
      return 'cancel'
    } catch (error) {
      if (!(error instanceof GateError)) throw error
      expect(error.code).toBe('RUN_FINISHED')
      expect(['completed', 'failed']).toContain((await storedRun(this.#room.database, known.id)).state)
      return 'cancel refused'
    }
  }

  /** Lets the work on a run go on, wherever it is held or believed to be. */
  async #release(): Promise<string> {
    const known = this.#pick(this.model.open)
    if (known === undefined) return 'release nothing'
    for (const { gates } of [...this.#processes, ...this.#zombies]) gates.release(known.id)
    await sleep(1)
    return 'release'
  }

  async #claim(): Promise<string> {
    await this.#process.engine.rounds.claims.tick()
    await this.#process.engine.rounds.watch.tick()
    return 'claim'
  }

  async #grant(): Promise<string> {
    const credits = 1 + Math.floor(this.#random() * 20)
    const at = new Date()
    const grant = { id: newId('txn', at.getTime()), class: 'included' as const, description: '', at }
    await this.#room.database.inTransaction((tx) =>
      insertGrant(tx, this.#organization, { ...grant, micro: credits * MICRO }),
    )
    this.model.grantedMicro += credits * MICRO
    return 'grant'
  }

  async #restart(): Promise<string> {
    const process = this.#processes.shift()
    this.#processes.push(await this.#start())
    await process?.[Symbol.asyncDispose]()
    return 'restart'
  }

  /** Its worker is proved dead, and it goes on as if it did not know. */
  async #bury(): Promise<string> {
    const process = this.#processes.shift()
    this.#processes.push(await this.#start())
    if (process === undefined) return 'bury nothing'
    this.#zombies.push(process)
    await this.#room.database.query('delete from worker where id = $1', [process.workerId])
    return 'bury'
  }

  async #available(): Promise<number> {
    const account = await findAccount(this.#room.database, this.#organization)
    if (account === undefined) throw new Error('the organisation has an account')
    return account.includedMicro + account.purchasedMicro - account.reservedMicro - account.spentMicro
  }

  /** Invariants 2, 6, 7 and 8 over what is open and what has just ended; the cap; no run lost and none invented. */
  async check(): Promise<void> {
    const { database } = this.#room
    const [counted] = await database.query<{ runs: number; running: number }>(
      "select count(*)::int as runs, count(*) filter (where state = 'running')::int as running from run",
    )
    expect(counted?.running).toBeLessThanOrEqual(CAP)
    expect(counted?.runs).toBe(this.model.runs.size)
    expect(await this.#available()).toBeGreaterThanOrEqual(0)
    for (const known of this.model.open) await this.#checkRun(known)
  }

  async #checkRun(known: Known): Promise<void> {
    const run = await storedRun(this.#room.database, known.id)
    expect(run.lastSeq).toBeGreaterThanOrEqual(known.lastSeq)
    expect(await this.#logOf(known.id, known.lastSeq)).toBe(known.log)
    known.lastSeq = run.lastSeq
    known.log = await this.#logOf(known.id, run.lastSeq)
    if (!isFinal(run.state)) return
    known.end = JSON.stringify(run)
    await this.#checkEnd(known, run)
  }

  async #checkEnd(known: Known, run: Run): Promise<void> {
    const { state, statusReason, chargedMicro, usage } = run
    expect(run.heldMicro).toBe(0)
    expect(chargedMicro).toBe(usage.steps * MICRO)
    if (state === 'canceled') expect(known.canceled || run.cancelRequestedAt !== null).toBe(true)
    else if (state === 'failed') {
      const claims = (await this.#eventsOf(known.id, run.lastSeq)).filter(isStrike)
      expect([statusReason, usage.steps, claims.length]).toEqual(['agent_error', 0, MAX_STRIKES])
    } else expect([state, usage.steps]).toEqual(['completed', 1])
  }

  async #logOf(id: RunId, upTo: number): Promise<string> {
    return sha256(Buffer.from((await this.#eventsOf(id, upTo)).join('\n')))
  }

  async #eventsOf(id: RunId, upTo: number): Promise<string[]> {
    const rows = await this.#room.database.query<{ events: string }>(
      'select events from run_event where run_id = $1 and last_seq <= $2 order by first_seq',
      [id, upTo],
    )
    return rows.flatMap(({ events }) => events.split('\n'))
  }

  /** Lets everything come to its end; final runs are what they were when they ended. */
  async finish(): Promise<void> {
    while (this.model.open.length > 0) {
      for (const { engine, gates } of this.#processes) {
        await engine.rounds.claims.tick()
        await engine.rounds.watch.tick()
        for (const id of gates.working) gates.release(id)
      }
      for (const { gates } of this.#zombies) for (const id of gates.working) gates.release(id)
      await sleep(1)
      await this.check()
    }
    for (const known of this.model.runs.values()) {
      expect(JSON.stringify(await storedRun(this.#room.database, known.id))).toBe(known.end)
    }
    expect(await this.#room.findings()).toEqual([])
    const account = await findAccount(this.#room.database, this.#organization)
    expect(account).toMatchObject({ includedMicro: this.model.grantedMicro, reservedMicro: 0 })
  }

  async close(): Promise<void> {
    for (const process of [...this.#processes, ...this.#zombies]) await process[Symbol.asyncDispose]()
  }
}

const STEPS = Number(process.env['AGENTGATE_TEST_MODEL_STEPS'] ?? 150)
const SEED = Number(process.env['AGENTGATE_TEST_SEED'] ?? Date.now() % 1_000_000)

test(
  `any ${STEPS} commands leave two processes where a small reference says (seed ${SEED})`,
  async () => {
    await using room = await openEngineRoom()
    const play = await Play.open(room, seeded(SEED))
    const history: string[] = []
    try {
      for (let i = 0; i < STEPS; i++) {
        history.push(await play.step())
        if (i % 500 === 499) expect(await room.findings()).toEqual([])
      }
      await play.finish()
    } catch (error) {
      report(`seed ${SEED}, step ${history.length}: … ${history.slice(-20).join(', ')}`)
      throw error
    } finally {
      await play.close()
    }
    const counts: Record<string, number> = {}
    for (const name of history.flatMap((each) => each.split(' + '))) counts[name] = (counts[name] ?? 0) + 1
    report(`seed ${SEED}: ${JSON.stringify(counts)}`)
  },
  60_000 + STEPS * 100,
)

/** Whether this event is a claim after nothing or after the loss of a worker. */
function isStrike(line: string): boolean {
  const { type, data } = JSON.parse(line)
  return type === 'run.started' || (type === 'run.resumed' && data.cause === 'worker_lost')
}
