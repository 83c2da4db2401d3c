import type { Mode } from '../domain/facts.ts'
import type { DeliveryDecision } from '../domain/webhook.ts'
import { storable } from '../lib/text.ts'
import type { Db } from './database.ts'

/** A delivery that its claimer must send and record before the claim is over. */
export interface ClaimedDelivery {
  id: string
  organizationId: string
  mode: Mode
  tenantId: string
  runId: string | null
  eventId: string
  eventType: string
  seq: number | null
  url: string
  /** The URL up to its query: what deliveries of one receiver have in common. */
  endpoint: string
  /** Attempts recorded so far. */
  attempts: number
  /** Of the run, as its caller gave it. */
  traceparent: string | null
}

export interface DeliveryClaim {
  atMs: number
  untilMs: number
  limit: number
  perEndpoint: number
  /** Where `perEndpoint` does not hold: how many more each of these endpoints may get (0 is none). */
  slots: ReadonlyMap<string, number>
}

/** Deliveries looked at in one claim: a backlog behind one receiver must not hide the others. */
const WINDOW = 1_000

const at = (ms: number): Date => new Date(ms)

/** Claims what is due, oldest first, at most so many of each endpoint. No two claimers get the same one. */
export function claimDueDeliveries(db: Db, claim: DeliveryClaim): Promise<ClaimedDelivery[]> {
  const full = [...claim.slots].filter(([, slots]) => slots <= 0).map(([endpoint]) => endpoint)
  return db.query<ClaimedDelivery>(
    {
      name: 'claim_due_deliveries',
      text: `
        with due as (
          select id, split_part(url, '?', 1) as endpoint, next_attempt_at, seq
          from delivery
          where outcome is null and next_attempt_at <= $1
            and (claimed_until is null or claimed_until <= $1)
            and split_part(url, '?', 1) <> all ($2::text[])
          order by next_attempt_at
          limit ${WINDOW}
          for update skip locked
        ), placed as (
          select *, row_number() over (partition by endpoint order by next_attempt_at, seq, id) as place from due
        ), chosen as (
          select id, endpoint
          from placed left join unnest($3::text[], $4::int[]) as few (endpoint, slots) using (endpoint)
          where place <= coalesce(slots, $5)
          order by next_attempt_at, seq, id
          limit $6
        )
        update delivery set claimed_until = $7
        from chosen
        where delivery.id = chosen.id
        returning delivery.id, organization_id as "organizationId", mode, tenant_id as "tenantId",
          run_id as "runId", event_id as "eventId", event_type as "eventType", seq, url, endpoint, attempts,
          (select facts::json ->> 'traceparent' from run_body where run_body.run_id = delivery.run_id) as traceparent`,
    },
    [
      at(claim.atMs),
      full,
      [...claim.slots.keys()],
      [...claim.slots.values()],
      claim.perEndpoint,
      claim.limit,
      at(claim.untilMs),
    ],
  )
}

/** Gives a claimed delivery back as it was: not sent, or not known to be. */
export async function releaseDelivery(db: Db, id: string): Promise<void> {
  await db.query(
    {
      name: 'release_delivery',
      text: 'update delivery set claimed_until = null where id = $1 and outcome is null',
    },
    [id],
  )
}

export interface RecordedAttempt {
  id: string
  /** 1 for the first. */
  n: number
  atMs: number
  latencyMs: number
  status: number | null
  error: string | null
  /** The beginning of what the receiver answered. */
  answer: string | null
  decision: DeliveryDecision
}

/** One attempt and what follows from it, together. Changes nothing if attempt `n` has been recorded by another. */
export async function recordAttempt(db: Db, attempt: RecordedAttempt): Promise<void> {
  const { decision } = attempt
  await db.query(
    {
      name: 'record_delivery_attempt',
      text: `
        with recorded as (
          update delivery set attempts = $2, outcome = $3, next_attempt_at = $4, claimed_until = null,
            last_status = $5, last_error = $6, last_attempt_at = $7
          where id = $1 and attempts = $2 - 1 and outcome is null
          returning id
        )
        insert into delivery_attempt (delivery_id, n, at, status, error, latency_ms, answer)
        select id, $2, $7, $5, $6, $8::int, $9::text from recorded`,
    },
    [
      attempt.id,
      attempt.n,
      'outcome' in decision ? decision.outcome : null,
      'retryAtMs' in decision ? at(decision.retryAtMs) : null,
      attempt.status,
      attempt.error === null ? null : storable(attempt.error),
      at(attempt.atMs),
      attempt.latencyMs,
      attempt.answer === null ? null : storable(attempt.answer),
    ],
  )
}

export interface PausedEndpoint {
  endpoint: string
  untilMs: number
}

/**
 * Puts off what is due for receivers that do not answer; it was not sent, so it is no attempt. What has been owed since
 * before `owedSinceMs` is given up. A bounded portion; true while there may be more.
 */
export async function putOffDeliveries(
  db: Db,
  paused: readonly PausedEndpoint[],
  { atMs, owedSinceMs }: { atMs: number; owedSinceMs: number },
): Promise<boolean> {
  const moved = await db.query(
    {
      name: 'put_off_deliveries',
      text: `
        with due as (
          select id, paused.until
          from delivery join unnest($2::text[], $3::timestamptz[]) as paused (endpoint, until)
            on paused.endpoint = split_part(url, '?', 1)
          where outcome is null and next_attempt_at <= $1 and (claimed_until is null or claimed_until <= $1)
          limit ${WINDOW}
          for update of delivery skip locked
        )
        update delivery set claimed_until = null,
          outcome = case when created_at < $4 then 'gave_up' end,
          next_attempt_at = case when created_at < $4 then null else due.until end,
          last_error = case when created_at < $4 then 'The receiver did not answer for days.' else last_error end
        from due
        where delivery.id = due.id
        returning delivery.id`,
    },
    [
      at(atMs),
      paused.map(({ endpoint }) => endpoint),
      paused.map(({ untilMs }) => at(untilMs)),
      at(owedSinceMs),
    ],
  )
  return moved.length === WINDOW
}
