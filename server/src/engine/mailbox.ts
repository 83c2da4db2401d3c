/**
 * Owns: the order of commands for each run in this process, and the runs it has at hand.
 * Invariants: commands of one run are decided one after the other, on what the ones before them became; an
 * answer is given only after the commit that holds it (invariants 2, 3); a worker whose claim is gone hears
 * `ClaimLost` and nothing else.
 * Leaves to others: which command to send when, and the writing itself.
 */
import type { JournalEntry } from '../domain/agent.ts'
import type { Command, Refusal } from '../domain/command.ts'
import { GateError } from '../domain/error.ts'
import type { RunFacts, RunId } from '../domain/facts.ts'
import { isFinal } from '../domain/lifecycle.ts'
import { ClaimLost } from '../domain/performer.ts'
import { type Run, unborn } from '../domain/run.ts'
import type { Clock } from '../lib/clock.ts'
import { invariant } from '../lib/invariant.ts'
import type { Birth, CommitRow } from '../storage/commit-row.ts'
import type { Db } from '../storage/database.ts'
import { findHeldRun, type Holding } from '../storage/runs.ts'
import { type CapOf, commitRow, type Line, step } from './decisions.ts'
import type { Answer } from './flusher.ts'

type Timeless<C> = C extends unknown ? Omit<C, 'at'> : never
export type Intent = Timeless<Command>

/** A command with the private records that belong to it. */
export interface Order {
  command: Intent
  journal?: readonly JournalEntry[]
}

/** What is decided together: each command on what the one before made of the run, up to the first refusal. */
export interface Sending {
  orders: readonly Order[]
  /** The claim a worker's command depends on. */
  claim?: string
  /** The holder that a claim must still find, or a hand-back leaves behind. */
  expectedHolder?: { claim: string | null }
  holder?: Holding
  virtualTime?: number
}

/** What a command came to, once it is durable. */
export interface Reply {
  run: Run
  refusal: Refusal | null
}

export interface Committed {
  run: Run
  lines: readonly Line[]
}

/** A create whose key was used before: the run it made then, and the body it came with. */
export class KeyTaken extends Error {
  override readonly name = 'KeyTaken'
  readonly runId: RunId
  readonly bodyHash: string
  constructor(runId: string, bodyHash: string) {
    super(`The idempotency key belongs to ${runId}.`)
    this.runId = runId as RunId
    this.bodyHash = bodyHash
  }
}

interface Entry {
  sending: Sending
  resolve: (reply: Reply) => void
  reject: (error: unknown) => void
}

interface Box {
  id: RunId
  run: Run | null
  holding: Holding
  birth: Birth | null
  queue: Entry[]
  pumping: boolean
}

const UNHELD: Holding = { claim: null, workerId: null, handedBack: false }

export interface MailboxesOptions {
  db: Db
  clock: Clock
  /** Only runs held by this worker stay at hand between commands. */
  workerId: string
  submit: (row: CommitRow) => Promise<Answer>
  /** Puts a pack of events that is too large for its row into a blob; returns its hash. */
  storePack: (text: string, at: number) => Promise<string>
  capOf: CapOf
  onCommitted: (committed: Committed) => void
}

/** A pack of events larger than this stands in a blob. */
const PACK_BYTES = 32 * 1024

export class Mailboxes {
  readonly #options: MailboxesOptions
  readonly #boxes = new Map<RunId, Box>()

  constructor(options: MailboxesOptions) {
    this.#options = options
  }

  /** Resolves when the command is durable, or refused. */
  send(id: RunId, sending: Sending): Promise<Reply> {
    const box = this.#boxes.get(id) ?? this.#open(id)
    return this.#enqueue(box, [sending])[0] ?? Promise.reject(new Error('nothing to send'))
  }

  /** A create and what is to happen with it at once, decided together. Throws `KeyTaken`, INSUFFICIENT_CREDITS. */
  birth(facts: RunFacts, birth: Birth, sendings: readonly Sending[]): Promise<Reply>[] {
    invariant(!this.#boxes.has(facts.id), `run ${facts.id} is created once`)
    const box = this.#open(facts.id)
    box.run = unborn(facts)
    box.birth = birth
    return this.#enqueue(box, sendings)
  }

  /** The run as of the last commit seen here; only runs held by this process are sure to be at hand. */
  peek(id: RunId): Run | null {
    return this.#boxes.get(id)?.run ?? null
  }

  /** Forgets what is known of a run, so that the next command reads it anew. */
  refresh(id: RunId): void {
    const box = this.#boxes.get(id)
    if (box !== undefined && !box.pumping && box.birth === null) box.run = null
  }

  #open(id: RunId): Box {
    const box: Box = { id, run: null, holding: UNHELD, birth: null, queue: [], pumping: false }
    this.#boxes.set(id, box)
    return box
  }

  #enqueue(box: Box, sendings: readonly Sending[]): Promise<Reply>[] {
    const replies = sendings.map(
      (sending) =>
        new Promise<Reply>((resolve, reject) => {
          box.queue.push({ sending, resolve, reject })
        }),
    )
    if (!box.pumping) void this.#pump(box)
    return replies
  }

  async #pump(box: Box): Promise<void> {
    box.pumping = true
    while (box.queue.length > 0) {
      const entries = box.queue.splice(0)
      try {
        await this.#round(box, entries)
      } catch (error) {
        box.run = box.birth === null ? null : box.run
        for (const entry of entries) if (!box.queue.includes(entry)) entry.reject(error)
      }
    }
    box.pumping = false
    const isHeld =
      box.holding.workerId === this.#options.workerId && box.run !== null && !isFinal(box.run.state)
    if (!isHeld || box.birth !== null) this.#boxes.delete(box.id)
  }

  /** Decides what is waiting, writes it as one row, and answers. */
  async #round(box: Box, entries: readonly Entry[]): Promise<void> {
    if (box.run === null) await this.#load(box)
    // A run is as old as its facts say, in lists and in its first event.
    const bornAt = box.birth === null ? undefined : box.run?.facts.createdAt
    const round = decideRound(box, entries, bornAt ?? this.#options.clock.now())
    box.queue.unshift(...round.later)
    if (!round.changed) {
      for (const settle of round.settles) settle()
      return
    }
    const row = await this.#rowOf(box, round)
    const answer = await this.#options.submit(row)
    if (answer === 'applied') this.#applied(box, round)
    else await this.#refused(box, round, answer)
  }

  async #load(box: Box): Promise<void> {
    const found = await findHeldRun(this.#options.db, box.id)
    if (found === undefined) throw new GateError('RESOURCE_NOT_FOUND', `Run ${box.id} does not exist.`)
    box.run = found.run
    box.holding = found.holding
  }

  async #rowOf(box: Box, round: Round): Promise<CommitRow> {
    const expectedClaim = box.holding.claim
    const row = commitRow({ expectedClaim, birth: box.birth, capOf: this.#options.capOf, ...round })
    if (row.events !== null && row.events.length > PACK_BYTES) {
      row.blobHash = await this.#options.storePack(row.events, round.at)
      row.events = null
    }
    return row
  }

  #applied(box: Box, round: Round): void {
    box.run = round.after
    box.holding = round.holder
    box.birth = null
    if (round.lines.length > 0) this.#options.onCommitted({ run: round.after, lines: round.lines })
    for (const settle of round.settles) settle()
  }

  /** Nothing was written: those to whom it is an answer get it, the others are decided again. */
  async #refused(box: Box, round: Round, answer: Exclude<Answer, 'applied'>): Promise<void> {
    if (answer === 'no_credit' || answer === 'no_capacity') {
      const [guilty, innocent] = split(
        round.entries,
        answer === 'no_credit' ? asksForCredit : asksForCapacity,
      )
      for (const entry of guilty) refuse(entry, answer, round)
      // A create that cannot be paid for takes with it whatever was to follow.
      if (box.birth !== null && answer === 'no_credit')
        for (const entry of innocent) refuse(entry, answer, round)
      else box.queue.unshift(...innocent)
      return
    }
    if (answer.cause === 'key_taken') {
      for (const entry of round.entries) entry.reject(new KeyTaken(answer.runId, answer.bodyHash))
      return
    }
    box.run = null
    box.queue.unshift(...round.entries)
  }
}

interface Round {
  before: Run
  after: Run
  lines: Line[]
  at: number
  holder: Holding
  journal: JournalEntry[]
  virtualTime: number
  entries: readonly Entry[]
  /** Commands left for the next round. */
  later: Entry[]
  settles: (() => void)[]
  changed: boolean
}

function decideRound(box: Box, entries: readonly Entry[], at: number): Round {
  invariant(box.run !== null, 'a round decides on a loaded run')
  const round: Round = {
    before: box.run,
    after: box.run,
    lines: [],
    at,
    holder: box.holding,
    journal: [],
    virtualTime: 0,
    entries,
    later: [],
    settles: [],
    changed: false,
  }
  for (const [i, entry] of entries.entries()) {
    const heldBefore = round.after.heldMicro
    decideEntry(box, round, entry)
    // A larger hold is paid for before anything is decided on top of it.
    const raisedHold = round.after.heldMicro > heldBefore && box.birth === null
    if (!raisedHold) continue
    round.later = entries.slice(i + 1)
    round.entries = entries.slice(0, i + 1)
    break
  }
  return round
}

function decideEntry(box: Box, round: Round, { sending, resolve, reject }: Entry): void {
  if (isStale(sending, round.holder)) {
    round.settles.push(() => reject(new ClaimLost(`Run ${box.id} is held by another claim.`)))
    return
  }
  let refusal: Refusal | null = null
  for (const { command, journal = [] } of sending.orders) {
    const result = step(round.after, { at: round.at, ...command })
    refusal = result.refusal
    if (refusal !== null) break
    round.lines.push(...result.lines)
    round.journal.push(...journal)
    round.changed ||= result.lines.length > 0 || journal.length > 0
    round.after = result.run
  }
  const reply = { run: round.after, refusal }
  round.settles.push(() => resolve(reply))
  if (sending.holder !== undefined && refusal === null) {
    round.holder = sending.holder
    round.changed = true
  }
  round.virtualTime = Math.max(round.virtualTime, sending.virtualTime ?? 0)
}

const isStale = ({ claim, expectedHolder }: Sending, holder: Holding): boolean =>
  (claim !== undefined && claim !== holder.claim) ||
  (expectedHolder !== undefined && expectedHolder.claim !== holder.claim)

const asks = ({ sending }: Entry, ...types: readonly Intent['type'][]): boolean =>
  sending.orders.some(({ command }) => types.includes(command.type))

const asksForCredit = (entry: Entry): boolean => asks(entry, 'create', 'begin_step')

const asksForCapacity = (entry: Entry): boolean => asks(entry, 'claim')

function split<T>(all: readonly T[], isFirst: (one: T) => boolean): [T[], T[]] {
  return [all.filter(isFirst), all.filter((one) => !isFirst(one))]
}

function refuse(entry: Entry, answer: 'no_credit' | 'no_capacity', round: Round): void {
  if (answer === 'no_capacity') {
    entry.reject(new ClaimLost('No capacity was left for the claim.'))
    return
  }
  if (!asks(entry, 'create')) {
    const message = 'The credit of the organisation does not cover the next step.'
    entry.resolve({
      run: round.before,
      refusal: { refused: 'limit', reason: 'insufficient_credits', message },
    })
    return
  }
  entry.reject(new GateError('INSUFFICIENT_CREDITS', 'The credit does not cover what this run may cost.'))
}
