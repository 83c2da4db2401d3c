import { listPages, segment } from '../list.ts'
import type { PagePromise } from '../page.ts'
import type { RequestOptions, Transport } from '../transport.ts'
import type { CreateGitCredentialRequest, GitCredential, ListGitCredentialsParams } from '../types.ts'

export class GitCredentials {
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  create(request: CreateGitCredentialRequest, options?: RequestOptions): Promise<GitCredential> {
    return this.#transport.json({ method: 'POST', path: '/v1/git-credentials', body: request }, options)
  }

  list(params: ListGitCredentialsParams = {}, options?: RequestOptions): PagePromise<GitCredential> {
    const read = (credential: GitCredential): GitCredential => credential
    return listPages(this.#transport, { path: '/v1/git-credentials', query: params, read }, options)
  }

  async delete(id: string, options?: RequestOptions): Promise<void> {
    await this.#transport.send({ method: 'DELETE', path: `/v1/git-credentials/${segment(id)}` }, options)
  }
}
