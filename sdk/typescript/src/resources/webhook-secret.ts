import type { RequestOptions, Transport } from '../transport.ts'
import type { WebhookSecret } from '../types.ts'

export interface RotateSecretRequest {
  /** Makes no new secret, but ends the overlap of the last rotation now. */
  finish?: boolean
}

/** The secret that signs the webhooks of work orders. */
export class DefaultWebhookSecret {
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  get(options?: RequestOptions): Promise<WebhookSecret> {
    return this.#transport.json({ method: 'GET', path: '/v1/webhook-secret' }, options)
  }

  /** Makes a new secret. For 24 hours `webhook-signature` carries both, `X-AgentGate-Signature` the old one. */
  rotate(request: RotateSecretRequest = {}, options?: RequestOptions): Promise<WebhookSecret> {
    return this.#transport.json({ method: 'POST', path: '/v1/webhook-secret/rotate', body: request }, options)
  }
}
