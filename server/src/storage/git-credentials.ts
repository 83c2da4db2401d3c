import type { Mode } from '../domain/facts.ts'
import type { Db } from './database.ts'
import { type PageAsk, type PageOf, readPage } from './page.ts'
import { Where } from './where.ts'

export interface GitCredentialRow {
  id: string
  organizationId: string
  mode: Mode
  /** Lower case, with a port if it has one. */
  host: string
  kind: 'basic' | 'token' | 'github_app'
  use: 'read' | 'publish'
  username: string | null
  apiBaseUrl: string | null
  /** Opens in the vault at `gitCredentialPlace`. */
  sealed: Buffer
  createdAt: Date
  lastUsedAt: Date | null
}

interface Owner {
  organizationId: string
  mode: Mode
}

const COLUMNS = `id, organization_id as "organizationId", mode, host, kind, use, username,
  api_base_url as "apiBaseUrl", sealed, created_at as "createdAt", last_used_at as "lastUsedAt"`

/** Where the secret of a credential is sealed for. */
export const gitCredentialPlace = ({ organizationId, id }: { organizationId: string; id: string }) => ({
  organizationId,
  purpose: `git_credential/${id}`,
})

/** The newest credential for a host and use. */
export async function findGitCredential(
  db: Db,
  { organizationId, mode }: Owner,
  wanted: Pick<GitCredentialRow, 'host' | 'use'>,
): Promise<GitCredentialRow | undefined> {
  const [row] = await db.query<GitCredentialRow>(
    `select ${COLUMNS} from git_credential
      where organization_id = $1 and mode = $2 and host = $3 and use = $4
      order by created_at desc, id desc limit 1`,
    [organizationId, mode, wanted.host, wanted.use],
  )
  return row
}

export function listGitCredentials(
  db: Db,
  { organizationId, mode, host }: Owner & { host: string | null },
  ask: PageAsk,
): Promise<PageOf<GitCredentialRow>> {
  const where = new Where().and('organization_id = ?', organizationId).and('mode = ?', mode)
  if (host !== null) where.and('host = ?', host)
  return readPage(db, { select: COLUMNS, from: 'git_credential', where, at: 'created_at', id: 'id' }, ask)
}

/** All that is sealed for an owner's git hosts: what must never be shown. */
export const listSealedGitCredentials = (
  db: Db,
  { organizationId, mode }: Owner,
): Promise<Pick<GitCredentialRow, 'id' | 'organizationId' | 'sealed'>[]> =>
  db.query(
    `select id, organization_id as "organizationId", sealed from git_credential
      where organization_id = $1 and mode = $2`,
    [organizationId, mode],
  )

export async function insertGitCredential(db: Db, row: GitCredentialRow): Promise<void> {
  await db.query(
    `insert into git_credential
      (id, organization_id, mode, host, kind, use, username, api_base_url, sealed, created_at)
      values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
    [
      row.id,
      row.organizationId,
      row.mode,
      row.host,
      row.kind,
      row.use,
      row.username,
      row.apiBaseUrl,
      row.sealed,
      row.createdAt,
    ],
  )
}

/** Whether there was such a credential. */
export async function deleteGitCredential(
  db: Db,
  { organizationId, mode }: Owner,
  id: string,
): Promise<boolean> {
  const rows = await db.query(
    'delete from git_credential where id = $1 and organization_id = $2 and mode = $3 returning id',
    [id, organizationId, mode],
  )
  return rows.length > 0
}

export async function touchGitCredential(db: Db, id: string, at: Date): Promise<void> {
  await db.query('update git_credential set last_used_at = $2 where id = $1', [id, at])
}
