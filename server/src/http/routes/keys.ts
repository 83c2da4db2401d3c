import type { CreateKeyRequest } from '../../contract/account.ts'
import { presentKey } from '../../contract/present-account.ts'
import type { Static } from '../../contract/schema.ts'
import { covers } from '../../contract/scope.ts'
import { GateError, notFound } from '../../domain/error.ts'
import { newId } from '../../lib/id.ts'
import { findKey, insertKey, type KeyRow, listKeys, revokeKey } from '../../storage/keys.ts'
import { hashKey, mintKey } from '../../vault/keys.ts'
import type { Caller, Gateway } from '../gateway.ts'
import type { Handlers } from '../handler.ts'
import type { KeyRing } from '../key-ring.ts'
import { once } from '../once.ts'
import { pageAnswer, pageAsk } from '../paging.ts'
import { Problems } from '../problems.ts'

export function keyRoutes(
  { db }: Gateway,
  keyRing: KeyRing,
): Pick<Handlers, 'createKey' | 'listKeys' | 'getKey' | 'deleteKey'> {
  return {
    createKey(call) {
      const row = newKeyRow(call.body, call)
      const secret = mintKey({
        holder: row.tenantId === null ? 'organization' : 'tenant',
        mode: row.mode,
      }).reveal()
      const key = { ...row, hint: secret.slice(0, HINT_LENGTH) }
      return once(db, call, async (tx) => {
        await insertKey(tx, { ...key, hash: hashKey(secret) })
        const shown = presentKey(key)
        const answer = {
          status: 201,
          body: { key: shown, secret },
          headers: { location: `/v1/keys/${key.id}` },
        }
        return { answer, subjectId: key.id, replay: { key: shown, secret: null } }
      })
    },

    async listKeys({ caller, query }) {
      const ask = pageAsk(query)
      return { status: 200, body: pageAnswer(await listKeys(db, caller, ask), ask, presentKey) }
    },

    async getKey({ caller, params }) {
      const key = await findKey(db, caller, params.id)
      if (key === undefined) throw notFound(`Key ${params.id}`)
      return { status: 200, body: presentKey(key) }
    },

    async deleteKey({ caller, params, at }) {
      const isThere = await revokeKey(db, caller, { id: params.id, at: new Date(at) })
      if (!isThere) throw notFound(`Key ${params.id}`)
      keyRing.forget(params.id)
      return { status: 204 }
    },
  }
}

/** The prefix and six characters: enough to tell keys apart. */
const HINT_LENGTH = 15

function newKeyRow(
  body: Static<typeof CreateKeyRequest>,
  { caller, at }: { caller: Caller; at: number },
): KeyRow {
  const scopes: readonly string[] = body.scopes ?? caller.scopes
  checkKey(body, caller, at)
  return {
    id: newId('key', at),
    organizationId: caller.organizationId,
    mode: caller.mode,
    tenantId: caller.tenantId ?? body.tenantId ?? null,
    name: body.name ?? '',
    hint: '',
    scopes: [...new Set(scopes)],
    createdAt: new Date(at),
    expiresAt: body.expiresAt === undefined ? null : new Date(body.expiresAt),
    revokedAt: null,
    lastUsedAt: null,
  }
}

/** A key can make no key that may do more than it may itself. */
function checkKey(body: Static<typeof CreateKeyRequest>, caller: Caller, at: number): void {
  const problems = new Problems()
  if (body.mode !== undefined && body.mode !== caller.mode) {
    problems.add('/mode', `must be ${caller.mode}, as this key is: use a ${body.mode} key to make another`)
  }
  if (caller.tenantId !== null && body.tenantId !== undefined && body.tenantId !== caller.tenantId) {
    problems.add('/tenantId', 'is not the tenant this key is bound to')
  }
  if (body.expiresAt !== undefined && Date.parse(body.expiresAt) <= at)
    problems.add('/expiresAt', 'has passed')
  problems.throwIfAny()
  const missing = (body.scopes ?? []).find((scope) => !covers(caller.scopes, scope))
  if (missing === undefined) return
  throw new GateError(
    'INSUFFICIENT_PERMISSIONS',
    `A key cannot grant ${missing}, which it does not have itself.`,
    {
      details: { requiredScope: missing, availableScopes: caller.scopes },
    },
  )
}
