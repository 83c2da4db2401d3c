import { listPages, segment } from '../list.ts'
import type { PagePromise } from '../page.ts'
import type { RequestOptions, Transport } from '../transport.ts'
import type { ApiKey, CreatedKey, CreateKeyRequest, ListParams } from '../types.ts'

export class Keys {
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** A new key that may do no more than this client's. Its secret is in this answer and nowhere else. */
  create(request: CreateKeyRequest, options?: RequestOptions): Promise<CreatedKey> {
    return this.#transport.json({ method: 'POST', path: '/v1/keys', body: request }, options)
  }

  get(id: string, options?: RequestOptions): Promise<ApiKey> {
    return this.#transport.json({ method: 'GET', path: `/v1/keys/${segment(id)}` }, options)
  }

  list(params: ListParams = {}, options?: RequestOptions): PagePromise<ApiKey> {
    return listPages(
      this.#transport,
      { path: '/v1/keys', query: params, read: (key: ApiKey) => key },
      options,
    )
  }

  /** The key stops working within five seconds. */
  async revoke(id: string, options?: RequestOptions): Promise<void> {
    await this.#transport.send({ method: 'DELETE', path: `/v1/keys/${segment(id)}` }, options)
  }
}
