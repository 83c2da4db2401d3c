import { Page, PagePromise } from '../page.ts'
import type { RequestOptions, Transport } from '../transport.ts'
import type { CreateGrantRequest, CreditBalance, CreditTransaction, ListUsageParams } from '../types.ts'

export class Credits {
  readonly usage: CreditUsage
  readonly grants: CreditGrants
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.usage = new CreditUsage(transport)
    this.grants = new CreditGrants(transport)
    this.#transport = transport
  }

  /** The account's balance. */
  get(options?: RequestOptions): Promise<CreditBalance> {
    return this.#transport.json({ method: 'GET', path: '/v1/credits' }, options)
  }
}

interface UsageAnswer {
  transactions: CreditTransaction[]
  total: number
  limit: number
  offset: number
}

export class CreditUsage {
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** Every movement of credits, newest first. */
  list(params: ListUsageParams = {}, options?: RequestOptions): PagePromise<CreditTransaction> {
    return new PagePromise(async () => {
      const request = { method: 'GET', path: '/v1/credits/usage', query: params } as const
      const { transactions, total, offset } = await this.#transport.json<UsageAnswer>(request, options)
      const reached = offset + transactions.length
      const more = transactions.length > 0 && reached < total
      return new Page(
        { data: transactions, nextCursor: null, total },
        more ? () => this.list({ ...params, offset: reached }, options) : undefined,
      )
    })
  }
}

export class CreditGrants {
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** Adds credits to the account; needs an administrator's key. */
  create(request: CreateGrantRequest, options?: RequestOptions): Promise<CreditTransaction> {
    return this.#transport.json({ method: 'POST', path: '/v1/credits/grants', body: request }, options)
  }
}
