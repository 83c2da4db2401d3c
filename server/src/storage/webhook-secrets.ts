import type { Mode } from '../domain/facts.ts'
import type { Db, Tx } from './database.ts'

/** Whose webhooks a default secret signs. */
export interface SecretOwner {
  organizationId: string
  mode: Mode
  /** Empty for the organisation's own. */
  tenantId: string
}

export interface WebhookSecretRow {
  sealed: Buffer
  /** The secret before, which signs too until `previousUntil`. */
  previousSealed: Buffer | null
  previousUntil: Date | null
}

const COLUMNS = 'sealed, previous_sealed as "previousSealed", previous_until as "previousUntil"'

/** Where a default secret is sealed for. */
export const webhookSecretPlace = ({ organizationId, mode, tenantId }: SecretOwner) => ({
  organizationId,
  purpose: `webhook_secret/${mode}/${tenantId}`,
})

export async function findWebhookSecret(db: Db, owner: SecretOwner): Promise<WebhookSecretRow | undefined> {
  const [row] = await db.query<WebhookSecretRow>(
    {
      name: 'find_webhook_secret',
      text: `select ${COLUMNS} from webhook_secret where organization_id = $1 and mode = $2 and tenant_id = $3`,
    },
    [owner.organizationId, owner.mode, owner.tenantId],
  )
  return row
}

/** The owner's secret: what is stored, or `sealed` if nothing is. Of two callers at once, both get the same. */
export async function getOrInsertWebhookSecret(
  db: Db,
  owner: SecretOwner,
  { sealed, at }: { sealed: Buffer; at: Date },
): Promise<WebhookSecretRow> {
  const [row] = await db.query<WebhookSecretRow>(
    `insert into webhook_secret (organization_id, mode, tenant_id, sealed, updated_at)
      values ($1, $2, $3, $4, $5)
      on conflict (organization_id, tenant_id, mode) do update set updated_at = webhook_secret.updated_at
      returning ${COLUMNS}`,
    [owner.organizationId, owner.mode, owner.tenantId, sealed, at],
  )
  return row ?? { sealed, previousSealed: null, previousUntil: null }
}

/** Puts `sealed` in force; the secret until now signs too until `previousUntil`. */
export async function rotateWebhookSecret(
  tx: Tx,
  owner: SecretOwner,
  { sealed, previousUntil, at }: { sealed: Buffer; previousUntil: Date; at: Date },
): Promise<void> {
  await tx.query(
    `insert into webhook_secret (organization_id, mode, tenant_id, sealed, updated_at)
      values ($1, $2, $3, $4, $5)
      on conflict (organization_id, tenant_id, mode) do update set sealed = excluded.sealed,
        previous_sealed = webhook_secret.sealed, previous_until = $6, updated_at = excluded.updated_at`,
    [owner.organizationId, owner.mode, owner.tenantId, sealed, at, previousUntil],
  )
}

/** From now on only the secret in force signs. */
export async function endSecretOverlap(tx: Tx, owner: SecretOwner, at: Date): Promise<void> {
  await tx.query(
    `update webhook_secret set previous_sealed = null, previous_until = null, updated_at = $4
      where organization_id = $1 and mode = $2 and tenant_id = $3`,
    [owner.organizationId, owner.mode, owner.tenantId, at],
  )
}
