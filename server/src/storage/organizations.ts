import type { Redaction } from '../lib/redact.ts'
import type { Db } from './database.ts'

export interface OrganizationRow {
  id: string
  name: string
  redaction: Redaction
}

/** Of one that is not there everything is masked. */
export async function findRedaction(db: Db, organizationId: string): Promise<Redaction> {
  const [row] = await db.query<{ redaction: Redaction }>(
    { name: 'find_redaction', text: 'select redaction from organization where id = $1' },
    [organizationId],
  )
  return row?.redaction ?? 'on'
}

export const listOrganizations = (db: Db): Promise<OrganizationRow[]> =>
  db.query<OrganizationRow>('select id, name, redaction from organization order by id')

export async function updateRedaction(db: Db, organizationId: string, redaction: Redaction): Promise<void> {
  await db.query('update organization set redaction = $2 where id = $1', [organizationId, redaction])
}
