import { GateError } from './domain/error.ts'
import type { Mode } from './domain/facts.ts'
import { MICRO_PER_CREDIT } from './domain/money.ts'
import { newId } from './lib/id.ts'
import type { Secret } from './lib/secret.ts'
import { insertGrant } from './storage/credits.ts'
import type { Database } from './storage/database.ts'
import { findInstallation, type Installation, insertFounding, lockFounding } from './storage/installation.ts'
import { insertKey } from './storage/keys.ts'
import { getOrInsertWebhookSecret, webhookSecretPlace } from './storage/webhook-secrets.ts'
import { hashKey, mintKey, mintWebhookSecret } from './vault/keys.ts'
import type { Vault } from './vault/vault.ts'

/** What the first start hands out, once. */
export interface FirstSecrets {
  liveKey: Secret
  testKey: Secret
  webhookSecret: Secret
}

export interface Founded {
  installation: Installation
  /** `null` unless this start was the first on this database. */
  secrets: FirstSecrets | null
}

/** Makes the organisation, its keys, its webhook secrets and its first grant, unless they are there. */
export async function found(
  database: Database,
  { vault, at, credits }: { vault: Vault; at: Date; credits: number },
): Promise<Founded> {
  return database.inTransaction(async (tx) => {
    await lockFounding(tx)
    const present = await findInstallation(tx)
    if (present !== undefined) return { installation: withSameKey(present, vault), secrets: null }
    const organizationId = newId('org', at.getTime())
    const installationId = newId('ins', at.getTime())
    await insertFounding(tx, {
      installationId,
      masterKeyId: vault.keyId,
      organizationId,
      name: 'default',
      at,
    })
    await insertGrant(tx, organizationId, {
      id: newId('txn', at.getTime()),
      class: 'included',
      micro: credits * MICRO_PER_CREDIT,
      description: 'First grant',
      at,
    })
    const issueKey = async (mode: Mode): Promise<Secret> => {
      const key = mintKey({ holder: 'organization', mode })
      await insertKey(tx, {
        id: newId('key', at.getTime()),
        organizationId,
        mode,
        tenantId: null,
        name: `first ${mode} key`,
        hint: key.reveal().slice(0, 13),
        hash: hashKey(key.reveal()),
        scopes: ['*'],
        createdAt: at,
        expiresAt: null,
        revokedAt: null,
        lastUsedAt: null,
      })
      return key
    }
    const issueSecret = async (mode: Mode): Promise<Secret> => {
      const secret = mintWebhookSecret()
      const owner = { organizationId, mode, tenantId: '' }
      await getOrInsertWebhookSecret(tx, owner, { sealed: vault.seal(secret, webhookSecretPlace(owner)), at })
      return secret
    }
    const liveKey = await issueKey('live')
    const testKey = await issueKey('test')
    const webhookSecret = await issueSecret('live')
    await issueSecret('test')
    return {
      installation: { id: installationId, epoch: 1, masterKeyId: vault.keyId },
      secrets: { liveKey, testKey, webhookSecret },
    }
  })
}

/** A gateway with another master key could open nothing that is stored: better not to start. */
function withSameKey(installation: Installation, vault: Vault): Installation {
  if (installation.masterKeyId === vault.keyId) return installation
  throw new GateError('CONFLICT', 'The master key is not the one that this database was sealed with.', {
    hint: 'Give the original key: the file master.key of the data folder, or AGENTGATE_MASTER_KEY.',
  })
}
