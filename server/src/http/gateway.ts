/** What this room needs of the others. */
import type { Constraints, Mode, RunFacts, RunId } from '../domain/facts.ts'
import type { PriceBook } from '../domain/money.ts'
import type { Run } from '../domain/run.ts'
import type { Clock } from '../lib/clock.ts'
import type { Metrics } from '../lib/metrics.ts'
import type { Database } from '../storage/database.ts'
import type { Vault } from '../vault/vault.ts'
import type { Allowances } from './rate-limits.ts'

export interface IdempotencyMark {
  /** Method and path, such as `POST /v1/runs`. */
  route: string
  key: string
  bodyHash: string
  /** Of the caller's key; empty for a key of the organisation. */
  tenantId: string
}

export interface Engine {
  /**
   * `run` is as of its `run.created` event, also when `replayed`. Throws `GateError` INSUFFICIENT_CREDITS (details
   * `required` and `available`, in credits), IDEMPOTENCY_KEY_REUSED or QUEUE_FULL.
   */
  createRun(
    facts: RunFacts,
    request: { idempotency: IdempotencyMark | null },
  ): Promise<{ run: Run; replayed: boolean }>
  /** The run after the command. Throws `GateError` RUN_FINISHED. */
  cancelRun(id: RunId, by: string): Promise<Run>
  /** The run at its next final or action-needed state; undefined when the time is over or `signal` aborts first. */
  waitForRun(id: RunId, options: { timeoutMs: number; signal: AbortSignal }): Promise<Run | undefined>
}

/** An agent that runs can be created for. */
export interface Agent {
  id: string
  slug: string
  version: string
  kind: 'loop' | 'scripted'
  /** Also the most that a request may ask for. */
  defaultConstraints: Constraints
  /** Reserved when a request names no `maxCredits`. */
  estimateCredits: number
  /** `provider/id`, in the order to try them. */
  models: readonly string[]
  toolNames: readonly string[]
  /** It works on a repository, so that it needs a work order. */
  needsWorkspace: boolean
}

/** Where a line about the server's life goes; pino fits. */
export interface Log {
  info(facts: object, sentence: string): void
  warn(facts: object, sentence: string): void
  error(facts: object, sentence: string): void
}

export interface Gateway {
  db: Database
  clock: Clock
  engine: Engine
  vault: Vault
  /** Whether the host of a repository is known to have an API for pull requests, with or without a credential. */
  knowsForge(owner: { organizationId: string; mode: Mode }, repository: string): Promise<boolean>
  /** By slug. */
  agents: Readonly<Record<string, Agent>>
  prices: PriceBook
  /** Requests per organisation and minute. */
  allowances: Allowances
  metrics: Metrics
  log: Log
  version: string
  /** A worker only tells how it is: health, readiness and figures. */
  offers: 'everything' | 'operations'
}

/** Who asks: what is known of the key that was presented. */
export interface Caller {
  keyId: string
  organizationId: string
  mode: Mode
  /** A key of a tenant sees that tenant only. */
  tenantId: string | null
  scopes: readonly string[]
}
