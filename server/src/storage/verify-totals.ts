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
  has_late: boolean
}

/** Accounts are what their ledgers add up to, and nobody spends what is not there (invariant 6). */
export async function verifyMoney(db: Db): Promise<Finding[]> {
  const rows = await db.query<Totals>(
    `with booked as (
       select organization_id, stripe,
         coalesce(sum(micro) filter (where kind = 'grant' and class = 'included'), 0)::bigint as included,
         coalesce(sum(micro) filter (where kind = 'grant' and class = 'purchased'), 0)::bigint as purchased,
         coalesce(sum(case kind when 'reserve' then micro when 'release' then -micro
           when 'deduct' then -micro else 0 end), 0)::bigint as reserved,
         coalesce(sum(case kind when 'deduct' then micro when 'late' then micro
           when 'refund' then -micro else 0 end), 0)::bigint as spent,
         bool_or(kind = 'late') as has_late
       from ledger group by organization_id, stripe
     )
     select organization_id,
       format('%s included, %s purchased, %s reserved, %s spent', included_micro, purchased_micro, reserved_micro,
         spent_micro) as account,
       format('%s included, %s purchased, %s reserved, %s spent', coalesce(included, 0), coalesce(purchased, 0),
         coalesce(reserved, 0), coalesce(spent, 0)) as ledger,
       coalesce(included_micro + purchased_micro - reserved_micro - spent_micro, 0) as available,
       coalesce(has_late, false) as has_late
     from account full join booked using (organization_id, stripe)`,
  )
  return rows.flatMap((row): Finding[] => {
    const { organization_id: subject, account, ledger, available } = row
    const findings: Finding[] = []
    if (account !== ledger) {
      findings.push({ invariant: 6, subject, sentence: `The account says ${account}; the ledger ${ledger}.` })
    }
    if (available < 0 && !row.has_late) {
      findings.push({
        invariant: 6,
        subject,
        sentence: `${-available} micro-credits more are gone than granted.`,
      })
    }
    return findings
  })
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
