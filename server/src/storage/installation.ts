import type { Db, Tx } from './database.ts'

export interface Installation {
  id: string
  /** Of the event log: an import or a restored cluster starts a new one. */
  epoch: number
  /** Tells the master key that stored secrets are sealed with. */
  masterKeyId: string
}

export async function findInstallation(db: Db): Promise<Installation | undefined> {
  const [row] = await db.query<Installation>(
    'select id, epoch, master_key_id as "masterKeyId" from installation',
  )
  return row
}

/** What the first start makes, in one transaction. */
export interface Founding {
  installationId: string
  masterKeyId: string
  organizationId: string
  name: string
  at: Date
}

export async function insertFounding(tx: Tx, founding: Founding): Promise<void> {
  const { installationId, masterKeyId, organizationId, name, at } = founding
  await tx.query('insert into installation (id, epoch, master_key_id, created_at) values ($1, 1, $2, $3)', [
    installationId,
    masterKeyId,
    at,
  ])
  await tx.query('insert into organization (id, name, created_at) values ($1, $2, $3)', [
    organizationId,
    name,
    at,
  ])
}

/** Serialises first starts of several processes on one database. */
export async function lockFounding(tx: Tx): Promise<void> {
  await tx.query("select pg_advisory_xact_lock(hashtextextended('agentgate founding', 0))")
}
