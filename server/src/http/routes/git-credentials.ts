import type { CreateGitCredentialRequest } from '../../contract/account.ts'
import { presentGitCredential } from '../../contract/present-account.ts'
import type { Static } from '../../contract/schema.ts'
import { notFound } from '../../domain/error.ts'
import { newId } from '../../lib/id.ts'
import { Secret } from '../../lib/secret.ts'
import {
  deleteGitCredential,
  gitCredentialPlace,
  insertGitCredential,
  listGitCredentials,
} from '../../storage/git-credentials.ts'
import type { Gateway } from '../gateway.ts'
import type { Handlers } from '../handler.ts'
import { once } from '../once.ts'
import { pageAnswer, pageAsk } from '../paging.ts'
import { Problems } from '../problems.ts'
import { checkCallbackUrl } from '../urls.ts'

export function gitCredentialRoutes({
  db,
  vault,
}: Gateway): Pick<Handlers, 'createGitCredential' | 'listGitCredentials' | 'deleteGitCredential'> {
  return {
    createGitCredential(call) {
      const { caller, body, at } = call
      checkCredential(body)
      const { organizationId, mode } = caller
      const id = newId('cred', at)
      const sealed = vault.seal(new Secret(body.secret), gitCredentialPlace({ organizationId, id }))
      const { host, kind, use, username = null, apiBaseUrl = null } = body
      const createdAt = new Date(at)
      const row = {
        id,
        organizationId,
        mode,
        host,
        kind,
        use,
        username,
        apiBaseUrl,
        sealed,
        createdAt,
        lastUsedAt: null,
      }
      return once(db, call, async (tx) => {
        await insertGitCredential(tx, row)
        return { answer: { status: 201, body: presentGitCredential(row) }, subjectId: id }
      })
    },

    async listGitCredentials({ caller, query }) {
      const ask = pageAsk(query)
      const page = await listGitCredentials(db, { ...caller, host: query.host ?? null }, ask)
      return { status: 200, body: pageAnswer(page, ask, presentGitCredential) }
    },

    async deleteGitCredential({ caller, params }) {
      const wasThere = await deleteGitCredential(db, caller, params.id)
      if (!wasThere) throw notFound(`Git credential ${params.id}`)
      return { status: 204 }
    },
  }
}

function checkCredential({
  kind,
  username,
  apiBaseUrl,
  secret,
}: Static<typeof CreateGitCredentialRequest>): void {
  const problems = new Problems()
  if (kind === 'basic' && username === undefined) {
    problems.add('/username', 'is required for the kind `basic`', 'MISSING_FIELD')
  }
  if (username !== undefined && /[:\r\n]/.test(username))
    problems.add('/username', 'must have no colon or line break')
  if (/[\r\n]/.test(secret)) problems.add('/secret', 'must have no line break')
  if (apiBaseUrl !== undefined) checkCallbackUrl(apiBaseUrl, '/apiBaseUrl', problems)
  problems.throwIfAny()
}
