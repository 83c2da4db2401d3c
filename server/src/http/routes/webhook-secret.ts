import { toIso } from '../../lib/clock.ts'
import type { Db } from '../../storage/database.ts'
import {
  endSecretOverlap,
  getOrInsertWebhookSecret,
  rotateWebhookSecret,
  type SecretOwner,
  type WebhookSecretRow,
  webhookSecretPlace,
} from '../../storage/webhook-secrets.ts'
import { mintWebhookSecret } from '../../vault/keys.ts'
import type { Caller, Gateway } from '../gateway.ts'
import type { Handlers } from '../handler.ts'
import { once } from '../once.ts'

const OVERLAP_MS = 24 * 60 * 60 * 1000

const NO_STORE = { 'cache-control': 'no-store' }

export function webhookSecretRoutes({
  db,
  vault,
}: Gateway): Pick<Handlers, 'getWebhookSecret' | 'rotateWebhookSecret'> {
  const newSealed = (owner: SecretOwner): Buffer => vault.seal(mintWebhookSecret(), webhookSecretPlace(owner))

  const getSecret = (on: Db, owner: SecretOwner, at: Date): Promise<WebhookSecretRow> =>
    getOrInsertWebhookSecret(on, owner, { sealed: newSealed(owner), at })

  const present = (owner: SecretOwner, row: WebhookSecretRow, at: number) => ({
    secret: vault.open(row.sealed, webhookSecretPlace(owner)).reveal(),
    previousSecretUntil: previousUntil(row, at),
  })

  return {
    async getWebhookSecret({ caller, at }) {
      const owner = ownerOf(caller)
      const row = await getSecret(db, owner, new Date(at))
      return { status: 200, body: present(owner, row, at), headers: NO_STORE }
    },

    rotateWebhookSecret(call) {
      const owner = ownerOf(call.caller)
      const at = new Date(call.at)
      return once(db, call, async (tx) => {
        await getSecret(tx, owner, at)
        if (call.body.finish) await endSecretOverlap(tx, owner, at)
        else {
          const rotation = { sealed: newSealed(owner), previousUntil: new Date(call.at + OVERLAP_MS), at }
          await rotateWebhookSecret(tx, owner, rotation)
        }
        const body = present(owner, await getSecret(tx, owner, at), call.at)
        const answer = { status: 200, body, headers: NO_STORE }
        return { answer, subjectId: owner.organizationId, replay: { ...body, secret: null } }
      })
    },
  }
}

const ownerOf = ({ organizationId, mode, tenantId }: Caller): SecretOwner => ({
  organizationId,
  mode,
  tenantId: tenantId ?? '',
})

function previousUntil(
  { previousSealed, previousUntil: until }: WebhookSecretRow,
  at: number,
): string | null {
  const isOver = previousSealed === null || until === null || until.getTime() <= at
  return isOver ? null : toIso(until.getTime())
}
