/**
 * The statement that makes a batch of decisions durable.
 *
 * Invariants: 1 (state, events, money and outbox of a decision stand or fall together: every derived row hangs on the
 * ids that the fenced write of `run` returned), 3 (a row changes only on the `last_seq` and claim it was decided on),
 * 6 and the caps (accounts and capacities that are asked for something are locked, in order, before anything is written).
 *
 * A part costs PostgreSQL time also where it has no rows. So the decision that goes alone takes only the parts that it
 * needs, a batch of steps only those of steps, and every other batch takes all. Each combination is a statement, prepared
 * for a connection when it is first needed; more of them would cost more memory (half a megabyte each) than they save.
 */
import {
  CAPACITY,
  DELIVERIES,
  decisions,
  JOURNAL,
  LANES,
  LEDGER,
  MONEY,
  type Source,
} from './commit-columns.ts'
import type { CommitRow } from './commit-row.ts'
import type { NamedStatement } from './database.ts'

/** What a batch may have rows for; `changes` are of runs that are there already. */
type Part =
  | 'births'
  | 'keys'
  | 'orders'
  | 'changes'
  | 'outcomes'
  | 'journal'
  | 'deliveries'
  | 'money'
  | 'capacity'
  | 'lanes'

const HAS: Readonly<Record<Part, (row: CommitRow) => boolean>> = {
  births: ({ birth }) => birth !== null,
  keys: ({ birth }) => birth !== null && birth.idempotency !== null,
  orders: ({ birth }) => birth !== null && birth.workOrderId !== null,
  changes: ({ birth }) => birth === null,
  outcomes: ({ outcome }) => outcome !== null,
  journal: ({ journal }) => journal.length > 0,
  deliveries: ({ deliveries }) => deliveries.length > 0,
  money: ({ money }) => money !== null,
  capacity: ({ capacity }) => capacity.length > 0,
  lanes: ({ lane }) => lane !== null,
}

const PARTS = Object.keys(HAS) as Part[] // keys of a record of parts
const OF_STEPS: readonly Part[] = ['changes', 'journal']

export interface FilledStatement extends NamedStatement {
  values: unknown[]
}

/** The statement for this batch, with what it takes. */
export function statementFor(epoch: number, rows: readonly CommitRow[]): FilledStatement {
  const { name, text, sources } = preparedFor(partsFor(rows))
  return { name, text, values: [epoch, ...sources.flatMap((source) => source.values(rows))] }
}

function partsFor(rows: readonly CommitRow[]): readonly Part[] {
  const needed = PARTS.filter((part) => rows.some(HAS[part]))
  if (rows.length === 1) return needed
  return needed.every((part) => OF_STEPS.includes(part)) ? OF_STEPS : PARTS
}

interface Prepared extends NamedStatement {
  sources: readonly Source[]
}

const prepared = new Map<string, Prepared>()

function preparedFor(parts: readonly Part[]): Prepared {
  const name = `commit_${PARTS.map((part) => (parts.includes(part) ? 1 : 0)).join('')}`
  const known = prepared.get(name)
  if (known !== undefined) return known
  const made = { name, ...compose(parts) }
  prepared.set(name, made)
  return made
}

/** Builds one statement: hands out its parameters, and knows which parts are in it. */
class Composer {
  readonly sources: Source[] = []
  readonly #parts: ReadonlySet<Part>
  /** The first is the epoch. */
  #parameters = 1

  constructor(parts: ReadonlySet<Part>) {
    this.#parts = parts
  }

  has(part: Part): boolean {
    return this.#parts.has(part)
  }

  /** The rows of a source as a table `t`, each with its place if asked for. */
  rows(given: Source, { placed = false } = {}): string {
    this.sources.push(given)
    const arrays = given.columns.map(({ type }) => `$${++this.#parameters}::${type}[]`)
    const columns = [...given.columns.map(({ name }) => name), ...(placed ? ['place'] : [])]
    return `unnest(${arrays.join(', ')})${placed ? ' with ordinality' : ''} as t (${columns.join(', ')})`
  }

  /** Why a row may not be written at all. */
  get refusals(): string[] {
    return [...(this.has('money') ? ['no_credit'] : []), ...(this.has('capacity') ? ['no_capacity'] : [])]
  }

  /** Holds for a row of `i` that nothing refuses. */
  get isAdmitted(): string {
    const isNot = this.refusals.map((name) => `(i.id in (select run_id from ${name})) is not true`)
    return ['true', ...isNot].join(' and ')
  }
}

const namesOf = ({ columns }: Source): string => columns.map(({ name }) => name).join(', ')

/** Holds for a row whose run was written: a hashed look-up, while a join would be made anew for each row. */
const isWritten = (id: string): string => `(${id} in (select id from ok)) is true`

interface Step {
  /** What there has to be for the step to be taken; `null` for one that is always. */
  of: Part | null
  sql: (to: Composer) => string
}

/** In this order: a step may use what stands above it. */
const STEPS: readonly Step[] = [
  {
    of: null,
    sql: (to) =>
      `i as materialized (select * from ${to.rows(decisions({ births: to.has('births'), keys: to.has('keys'), outcomes: to.has('outcomes') }))})`,
  },
  {
    of: 'capacity',
    sql: (to) => `cap as materialized (select * from ${to.rows(CAPACITY, { placed: true })}),
      cap_now as materialized (
        select scope, running from capacity where scope in (select scope from cap) order by scope for no key update
      ),
      no_capacity as materialized (
        select run_id from (
          select cap.run_id, (select running from cap_now where cap_now.scope = cap.scope)
            + sum(delta) over (partition by scope order by place) > cap.cap as is_over
          from cap where delta > 0
        ) as sums where is_over is not false
      )`,
  },
  {
    of: 'money',
    sql: (to) => `money as materialized (select * from ${to.rows(MONEY, { placed: true })}),
      account_now as materialized (
        select organization_id, included_micro + purchased_micro - reserved_micro - spent_micro as available
        from account where stripe = 0 and organization_id in (select organization_id from money)
        order by organization_id for no key update
      ),
      no_credit as materialized (
        select run_id from (
          select money.run_id, sum(reserved) over (partition by organization_id order by place)
            > (select available from account_now where account_now.organization_id = money.organization_id) as is_over
          from money where reserved > 0
        ) as sums where is_over is not false
      )`,
  },
  {
    of: 'keys',
    sql: (to) => `k as (
      insert into idempotency_key
        (organization_id, mode, tenant_id, route, key, body_hash, subject_id, status, created_at)
      select organization_id, mode, key_tenant, route, key, body_hash, id, 201, at from i
      where key is not null and ${to.isAdmitted}
      on conflict do nothing returning subject_id
    )`,
  },
  {
    of: 'births',
    sql: (to) => `c as (
      insert into run (id, organization_id, mode, tenant_id, agent, work_order_id, state, status_reason, last_seq,
        commit_id, claim, worker_id, due_at, created_at, fold)
      select id, organization_id, mode, tenant_id, agent, work_order_id, state, status_reason, new_seq,
        commit_id, claim, worker_id, due_at, at, fold from i
      where facts is not null and ${to.isAdmitted}
        ${to.has('keys') ? 'and (key is null or (id in (select subject_id from k)) is true)' : ''}
      on conflict do nothing returning id
    )`,
  },
  {
    of: 'changes',
    sql: (to) => `u as (
      update run set state = i.state, status_reason = i.status_reason, last_seq = i.new_seq, commit_id = i.commit_id,
        claim = i.claim, worker_id = i.worker_id, handed_back = i.handed_back, due_at = i.due_at, fold = i.fold
      from i
      where run.id = i.id and run.last_seq = i.old_seq and run.claim is not distinct from i.expected_claim
        and ${to.isAdmitted} ${to.has('births') ? 'and i.facts is null' : ''}
      returning run.id
    )`,
  },
  {
    of: null,
    sql: (to) => {
      const writers = [...(to.has('births') ? ['c'] : []), ...(to.has('changes') ? ['u'] : [])]
      return `ok as materialized (${writers.map((name) => `select id from ${name}`).join(' union all ')})`
    },
  },
  {
    of: null,
    sql: () => `e as (
      insert into run_event (run_id, first_seq, last_seq, commit_id, epoch, at, events, blob_hash)
      select id, old_seq + 1, new_seq, commit_id, $1, at, events, blob_hash from i
      where new_seq > old_seq and ${isWritten('id')}
    )`,
  },
  {
    of: 'births',
    sql: () => `b as (
      insert into run_body (run_id, facts) select id, facts from i where facts is not null and ${isWritten('id')}
    )`,
  },
  {
    of: 'orders',
    sql: () => `w as (
      insert into work_order (id, organization_id, mode, tenant_id, created_at, run_id)
      select work_order_id, organization_id, mode, tenant_id, at, id from i
      where work_order_id is not null and ${isWritten('id')}
      on conflict (id) do update set run_id = excluded.run_id
    )`,
  },
  {
    of: 'outcomes',
    sql: () => `o as (
      insert into run_outcome (run_id, outcome)
      select id, outcome from i where outcome is not null and ${isWritten('id')}
    )`,
  },
  {
    of: 'journal',
    sql: (to) => `s as (
      insert into step (run_id, n, part, kind, record)
      select ${namesOf(JOURNAL)} from ${to.rows(JOURNAL)} where ${isWritten('run_id')}
      on conflict (run_id, n, part) do update set record = excluded.record
    )`,
  },
  {
    of: 'deliveries',
    sql: (to) => `d as (
      insert into delivery
        (id, run_id, event_id, event_type, seq, url, organization_id, mode, tenant_id, created_at, next_attempt_at)
      select ${namesOf(DELIVERIES)}, at from ${to.rows(DELIVERIES)} where ${isWritten('run_id')}
    )`,
  },
  {
    of: 'money',
    sql: (to) => `l as (
        insert into ledger (id, run_id, kind, organization_id, tenant_id, micro, at)
        select ${namesOf(LEDGER)} from ${to.rows(LEDGER)} where ${isWritten('run_id')}
      ),
      a as (
        update account set reserved_micro = reserved_micro + t.reserved, spent_micro = spent_micro + t.spent
        from (
          select organization_id, sum(reserved)::bigint as reserved, sum(spent)::bigint as spent
          from money where ${isWritten('run_id')} group by organization_id order by organization_id
        ) as t
        where account.stripe = 0 and account.organization_id = t.organization_id
      )`,
  },
  {
    of: 'capacity',
    sql: () => `p as (
      update capacity set running = running + t.delta
      from (
        select scope, sum(delta)::int as delta from cap where ${isWritten('run_id')} group by scope order by scope
      ) as t
      where capacity.scope = t.scope
    )`,
  },
  {
    of: 'lanes',
    sql: (to) => `ln as (
      insert into lane (organization_id, mode, tenant_id, agent, queued, running, tag, virtual_time)
      select organization_id, mode, tenant_id, agent, sum(queued)::int, sum(running)::int, sum(advance), max(virtual_time)
      from ${to.rows(LANES)}
      where ${isWritten('run_id')}
      group by organization_id, mode, tenant_id, agent
      order by organization_id, mode, tenant_id, agent
      on conflict (organization_id, mode, tenant_id, agent) do update
        set queued = lane.queued + excluded.queued, running = lane.running + excluded.running,
          tag = greatest(lane.tag, excluded.virtual_time) + excluded.tag / lane.weight,
          virtual_time = greatest(lane.virtual_time, excluded.virtual_time)
    )`,
  },
]

function compose(parts: readonly Part[]): { text: string; sources: readonly Source[] } {
  const to = new Composer(new Set(parts))
  const steps = STEPS.filter(({ of }) => of === null || to.has(of)).map(({ sql }) => sql(to))
  const verdicts = [
    `when ${isWritten('id')} then 'applied'`,
    ...to.refusals.map((name) => `when (id in (select run_id from ${name})) is true then '${name}'`),
  ]
  const answer = `select id, case ${verdicts.join(' ')} else 'unfenced' end as verdict from i`
  return { text: `with ${steps.join(',\n')}\n${answer}`, sources: to.sources }
}
