import type { RunId } from '../domain/facts.ts'
import type { Db } from './database.ts'

/** What proves which process a worker is: the same pid of another boot, or started at another time, is not it. */
export interface ProcessMark {
  bootId: string
  pid: number
  pidStarted: string
}

export interface WorkerRow extends ProcessMark {
  id: string
}

export async function insertWorker(
  db: Db,
  worker: WorkerRow,
  times: { startedAt: Date; leaseUntil: Date },
): Promise<void> {
  await db.query(
    `insert into worker (id, started_at, lease_until, boot_id, pid, pid_started) values ($1, $2, $3, $4, $5, $6)`,
    [worker.id, times.startedAt, times.leaseUntil, worker.bootId, worker.pid, worker.pidStarted],
  )
}

/** False when the row is gone: somebody proved this worker dead, or an import replaced the table. */
export async function renewLease(db: Db, id: string, leaseUntil: Date): Promise<boolean> {
  const rows = await db.query(
    { name: 'renew_lease', text: 'update worker set lease_until = $2 where id = $1 returning id' },
    [id, leaseUntil],
  )
  return rows.length === 1
}

export async function listWorkers(db: Db): Promise<WorkerRow[]> {
  const rows = await db.query<{ id: string; boot_id: string; pid: number; pid_started: string }>(
    'select id, boot_id, pid, pid_started from worker',
  )
  return rows.map((row) => ({ id: row.id, bootId: row.boot_id, pid: row.pid, pidStarted: row.pid_started }))
}

/** After this the runs of the worker are orphans. */
export async function deleteWorker(db: Db, id: string): Promise<void> {
  await db.query('delete from worker where id = $1', [id])
}

/** Processes besides this one whose lease is not over. */
export async function countOtherWorkers(db: Db, id: string, at: Date): Promise<number> {
  const [row] = await db.query<{ others: number }>(
    {
      name: 'count_other_workers',
      text: 'select count(*)::int as others from worker where id <> $1 and lease_until > $2',
    },
    [id, at],
  )
  return row?.others ?? 0
}

/** Runs that a worker holds, with how far each is, so that it sees what others did to them. */
export async function listHeld(
  db: Db,
  workerId: string,
): Promise<{ id: RunId; lastSeq: number; claim: string }[]> {
  const rows = await db.query<{ id: RunId; last_seq: number; claim: string }>(
    { name: 'list_held', text: 'select id, last_seq, claim from run where worker_id = $1' },
    [workerId],
  )
  return rows.map((row) => ({ id: row.id, lastSeq: row.last_seq, claim: row.claim }))
}
