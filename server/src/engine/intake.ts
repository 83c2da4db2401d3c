/**
 * Owns: how a run begins, from its facts to the answer of its create.
 * Invariants: a create is acknowledged when it is durable, and is done once for its idempotency key.
 * Leaves to others: who may create what (http), who works on it (claims, workbench).
 */
import { GateError } from '../domain/error.ts'
import type { RunFacts } from '../domain/facts.ts'
import { organizationScope, scopesOf } from '../domain/fairness.ts'
import { availableMicro, MICRO_PER_CREDIT } from '../domain/money.ts'
import { ClaimLost } from '../domain/performer.ts'
import { type Run, unborn } from '../domain/run.ts'
import { BoundedMap } from '../lib/bounded-map.ts'
import { storableJson } from '../lib/text.ts'
import { findAccount } from '../storage/accounts.ts'
import type { Birth } from '../storage/commit-row.ts'
import type { Database } from '../storage/database.ts'
import { findAnswer } from '../storage/idempotency.ts'
import { countQueued, insertCapacity } from '../storage/queue.ts'
import { findHeldRun } from '../storage/runs.ts'
import { type Claims, claiming } from './claims.ts'
import { placeOf, step } from './decisions.ts'
import { KeyTaken, type Mailboxes, type Reply, type Sending } from './mailbox.ts'
import type { Workbench } from './workbench.ts'

export interface Created {
  /** The run as its `run.created` event left it. */
  run: Run
  replayed: boolean
}

export interface CreateRequest {
  /** `tenantId` is that of the caller's key; empty for a key of the organisation. */
  idempotency: { route: string; key: string; bodyHash: string; tenantId: string } | null
}

export interface IntakeOptions {
  database: Database
  mailboxes: Mailboxes
  workbench: Workbench
  claims: Claims
  workerId: string
  isFenced: () => boolean
  /** Queued runs an organisation may have in one mode before creates are refused. */
  maxQueued: number
  wakeClaims: () => void
}

/** One that is forgotten is made sure of again, which is one statement. */
const SCOPES_KNOWN = 10_000

export class Intake {
  readonly #options: IntakeOptions
  /** Scopes that are known to have a row to be counted in. */
  readonly #scopes = new BoundedMap<string, true>(SCOPES_KNOWN)

  constructor(options: IntakeOptions) {
    this.#options = options
  }

  /** See `Engine.createRun`. */
  async create(facts: RunFacts, request: CreateRequest): Promise<Created> {
    const { claims, workbench, isFenced } = this.#options
    for (const { key } of scopesOf(placeOf(facts))) await this.#knowScope(key)
    try {
      const isWaiting = claims.isWaiting(organizationScope(facts))
      const isReady = workbench.free > 0 && !isFenced() && !isWaiting
      const run = isReady ? await this.#bear(facts, request) : await this.#enqueue(facts, request)
      return { run, replayed: false }
    } catch (error) {
      if (error instanceof KeyTaken) return this.#replay(error, request)
      throw await this.#withFigures(error, facts)
    }
  }

  /** Birth-claim: create and claim are one decision, and the run is at work when its create is acknowledged. */
  #bear(facts: RunFacts, request: CreateRequest): Promise<Run> {
    const { claims, mailboxes, workbench, workerId } = this.#options
    const { token, sending } = claiming(workerId, facts.createdAt)
    const [created, claimed] = mailboxes.birth(facts, birthOf(facts, request), [CREATE, sending])
    const filled = workbench.fill(async () => {
      const reply = await must(claimed).catch(ignoreLostClaim)
      if (reply === null) claims.expect(organizationScope(facts))
      return reply?.run.state === 'running' ? { run: reply.run, token, resumePoint: 0 } : null
    })
    // The create has the same failure and reports it.
    filled.catch(() => undefined)
    return must(created).then(({ run }) => run)
  }

  async #enqueue(facts: RunFacts, request: CreateRequest): Promise<Run> {
    const { database, mailboxes, claims, maxQueued, wakeClaims } = this.#options
    const queued = await countQueued(database, facts.organizationId, facts.mode)
    if (queued >= maxQueued) {
      await this.#findTwin(facts, request)
      const details = { queued, limit: maxQueued }
      throw new GateError('QUEUE_FULL', `${queued} runs are waiting already.`, {
        details,
        hint: 'Try again when some have started.',
      })
    }
    const [created] = mailboxes.birth(facts, birthOf(facts, request), [CREATE])
    const { run } = await must(created)
    const isKnown = claims.isWaiting(organizationScope(facts))
    claims.expect(organizationScope(facts))
    if (!isKnown) wakeClaims()
    return run
  }

  /** Throws `KeyTaken` where the request was answered before: its answer needs no place in the queue. */
  async #findTwin({ organizationId, mode }: RunFacts, { idempotency }: CreateRequest): Promise<void> {
    if (idempotency === null) return
    const twin = await findAnswer(this.#options.database, { organizationId, mode, ...idempotency })
    if (twin !== undefined) throw new KeyTaken(twin.subjectId, twin.bodyHash)
  }

  async #replay(taken: KeyTaken, { idempotency }: CreateRequest): Promise<Created> {
    if (idempotency?.bodyHash !== taken.bodyHash) {
      throw new GateError('IDEMPOTENCY_KEY_REUSED', 'This Idempotency-Key was used with another body.', {
        hint: 'Use a new key for a new request.',
      })
    }
    const found = await findHeldRun(this.#options.database, taken.runId)
    if (found === undefined)
      throw new GateError('SERVICE_UNAVAILABLE', 'The run of this key cannot be read right now.')
    return { run: asCreated(found.run.facts), replayed: true }
  }

  async #withFigures(error: unknown, facts: RunFacts): Promise<unknown> {
    if (!(error instanceof GateError) || error.code !== 'INSUFFICIENT_CREDITS') return error
    const account = await findAccount(this.#options.database, facts.organizationId)
    const required = facts.reserveMicro / MICRO_PER_CREDIT
    const available = account === undefined ? 0 : Math.floor(availableMicro(account) / MICRO_PER_CREDIT)
    return new GateError(
      'INSUFFICIENT_CREDITS',
      `This run needs ${required} credits, and ${available} are available.`,
      {
        details: { required, available },
        hint: 'Grant credits, or lower constraints.maxCredits.',
        cause: error,
      },
    )
  }

  async #knowScope(scope: string): Promise<void> {
    if (this.#scopes.has(scope)) return
    await insertCapacity(this.#options.database, scope)
    this.#scopes.set(scope, true)
  }
}

const CREATE: Sending = { orders: [{ command: { type: 'create' } }] }

const asCreated = (facts: RunFacts): Run => step(unborn(facts), { type: 'create', at: facts.createdAt }).run

function birthOf(facts: RunFacts, { idempotency }: CreateRequest): Birth {
  const { organizationId, mode, tenantId, agent, order } = facts
  return {
    organizationId,
    mode,
    tenantId,
    agent: agent.slug,
    workOrderId: order?.id ?? null,
    facts: storableJson(facts),
    idempotency,
  }
}

async function must(reply: Promise<Reply> | undefined): Promise<Reply> {
  if (reply === undefined) throw new Error('every sending has a reply')
  return reply
}

function ignoreLostClaim(error: unknown): null {
  if (error instanceof ClaimLost) return null
  throw error
}
