import { scopesOf } from '../domain/fairness.ts'
import type { Db } from './database.ts'

export interface Finding {
  /** The number in ARCHITECTURE.md. */
  invariant: 1 | 2 | 6 | 8 | 10
  /** The id of what is wrong. */
  subject: string
  sentence: string
}

interface Totals {
  organization_id: string
  account: string
  ledger: string
  available: number
  allocated: number
  spent: number
  /** What grants have left, those among them that only the ledger knows. */
  rest: number
  granted_left: number
}

/** Accounts are what their ledgers and grants add up to, and nobody spends what is not there (invariant 6). */
export async function verifyMoney(db: Db): Promise<Finding[]> {
  const rows = await db.query<Totals>(
    `with booked as (
       select organization_id, stripe,
         coalesce(sum(case kind when 'grant' then micro when 'expire' then -micro end)
           filter (where class = 'included'), 0)::bigint as included,
         coalesce(sum(case kind when 'grant' then micro when 'expire' then -micro end)
           filter (where class = 'purchased'), 0)::bigint as purchased,
         coalesce(sum(case kind when 'reserve' then micro when 'release' then -micro
           when 'deduct' then -micro else 0 end), 0)::bigint as reserved,
         coalesce(sum(case kind when 'deduct' then micro when 'late' then micro
           when 'refund' then -micro else 0 end), 0)::bigint as spent,
         coalesce(sum(micro) filter (where kind = 'grant'
           and not exists (select from credit_grant where credit_grant.id = ledger.id)), 0)::bigint as unlisted
       from ledger group by organization_id, stripe
     ),
     listed as (
       select organization_id, stripe, sum(micro - used_micro - expired_micro)::bigint as rest
       from credit_grant group by organization_id, stripe
     )
     select organization_id,
       format('%s included, %s purchased, %s reserved, %s spent', included_micro, purchased_micro, reserved_micro,
         spent_micro) as account,
       format('%s included, %s purchased, %s reserved, %s spent', coalesce(included, 0), coalesce(purchased, 0),
         coalesce(reserved, 0), coalesce(spent, 0)) as ledger,
       coalesce(included_micro + purchased_micro - reserved_micro - spent_micro, 0) as available,
       coalesce(allocated_micro, 0) as allocated, coalesce(spent_micro, 0) as spent,
       coalesce(rest, 0) + coalesce(unlisted, 0) as rest,
       coalesce(included_micro + purchased_micro - allocated_micro, 0) as granted_left
     from account full join booked using (organization_id, stripe) full join listed using (organization_id, stripe)`,
  )
  return rows.flatMap((row): Finding[] => {
    const { organization_id: subject, account, ledger, available } = row
    const findings: Finding[] = []
    if (account !== ledger) {
      findings.push({ invariant: 6, subject, sentence: `The account says ${account}; the ledger ${ledger}.` })
    }
    if (row.rest !== row.granted_left || row.allocated > row.spent) {
      const sentence = `Its grants have ${row.rest} left; by the account it is ${row.granted_left}.`
      findings.push({ invariant: 6, subject, sentence })
    }
    if (available < 0) {
      findings.push({
        invariant: 6,
        subject,
        sentence: `${-available} micro-credits more are gone than granted.`,
      })
    }
    return findings
  })
}

interface Entry {
  subject: string
  sentence: string
}

/** Each grant is what the ledger says of it, and each late usage is booked by one entry (invariant 6). */
export async function verifyEntries(db: Db): Promise<Finding[]> {
  const grants = await db.query<Entry>(
    `select credit_grant.id as subject,
       format('The grant is of %s %s, of which %s expired; by the ledger it is %s %s, and %s.', credit_grant.micro,
         credit_grant.class, expired_micro, ledger.micro, ledger.class, coalesce(expired.micro, 0)) as sentence
     from credit_grant left join ledger on ledger.id = credit_grant.id and ledger.kind = 'grant'
     left join (select grant_id, sum(micro)::bigint as micro from ledger where kind = 'expire' group by grant_id)
       as expired on expired.grant_id = credit_grant.id
     where ledger.micro is distinct from credit_grant.micro or ledger.class is distinct from credit_grant.class
       or coalesce(expired.micro, 0) <> expired_micro`,
  )
  const late = await db.query<Entry>(
    `select coalesce(entry.run_id, late_usage.run_id) as subject,
       format('Late usage of step %s is booked as %s; the ledger has %s.', step, entry_id, entry.id) as sentence
     from (select id, run_id from ledger where kind = 'late') as entry
     full join (select run_id, step, entry_id from late_usage where entry_id is not null) as late_usage
       on late_usage.entry_id = entry.id and late_usage.run_id = entry.run_id
     where entry.id is null or late_usage.entry_id is null`,
  )
  return [...grants, ...late].map((row): Finding => ({ invariant: 6, ...row }))
}

/** Lanes and caps count the runs there are: their rows are written with the runs, so they differ only by a bug (1). */
export async function verifyQueue(db: Db): Promise<Finding[]> {
  const lanes = await db.query<{ subject: string; sentence: string }>(
    `select concat_ws('/', organization_id, mode, tenant_id, agent) as subject,
       format('The lane counts %s queued and %s running runs; there are %s and %s.', coalesce(lane.queued, 0),
         coalesce(lane.running, 0), coalesce(there.queued, 0), coalesce(there.running, 0)) as sentence
     from lane full join (
       select organization_id, mode, tenant_id, agent, count(*) filter (where state = 'queued') as queued,
         count(*) filter (where state = 'running') as running
       from run where state in ('queued', 'running') group by organization_id, mode, tenant_id, agent
     ) as there using (organization_id, mode, tenant_id, agent)
     where coalesce(lane.queued, 0) <> coalesce(there.queued, 0)
       or coalesce(lane.running, 0) <> coalesce(there.running, 0)`,
  )
  return [...lanes.map((row): Finding => ({ invariant: 1, ...row })), ...(await verifyCaps(db))]
}

interface CountRow {
  /** Of a cap; `null` for a lane's runs at work. */
  scope: string | null
  running: number
  organization_id: string
  mode: string
  tenant_id: string
  agent: string
}

async function verifyCaps(db: Db): Promise<Finding[]> {
  const rows = await db.query<CountRow>(
    `select scope, running, '' as organization_id, '' as mode, '' as tenant_id, '' as agent from capacity
     union all
     select null, count(*)::int, organization_id, mode, tenant_id, agent from run where state = 'running'
     group by organization_id, mode, tenant_id, agent`,
  )
  const there = new Map<string, number>()
  for (const row of rows.filter(({ scope }) => scope === null)) {
    const place = {
      organizationId: row.organization_id,
      mode: row.mode,
      tenantId: row.tenant_id,
      agent: row.agent,
    }
    for (const { key } of scopesOf(place)) there.set(key, (there.get(key) ?? 0) + row.running)
  }
  const counted = new Map(rows.map((row) => [row.scope ?? '', row.running]))
  counted.delete('')
  return [...new Set([...there.keys(), ...counted.keys()])].flatMap((subject): Finding[] => {
    const [count, work] = [counted.get(subject) ?? 0, there.get(subject) ?? 0]
    const sentence = `The cap counts ${count} runs at work; there are ${work}.`
    return count === work ? [] : [{ invariant: 1, subject, sentence }]
  })
}
