/** Why a workspace could not be had or kept; each is a `statusReason` of the contract. */
export type SourceReason =
  | 'source_unavailable'
  | 'source_auth_failed'
  | 'source_invalid'
  | 'workspace_failed'
  | 'disk_limit'

/** Why a finished commit did not arrive; each is a `statusReason` of the contract. */
export type DeliveryReason = 'base_moved' | 'push_rejected' | 'delivery_failed'

export interface FailureOptions {
  /** Whether the same attempt may succeed later. */
  retryable?: boolean
  cause?: unknown
}

/** The message is a sentence for the caller that says what to do and holds no secret. */
export class SourceError extends Error {
  override readonly name = 'SourceError'
  readonly reason: SourceReason
  readonly retryable: boolean
  constructor(reason: SourceReason, message: string, options: FailureOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.reason = reason
    this.retryable = options.retryable ?? reason === 'source_unavailable'
  }
}

/** The message is a sentence for the caller that says what to do and holds no secret. */
export class DeliveryError extends Error {
  override readonly name = 'DeliveryError'
  readonly reason: DeliveryReason
  readonly retryable: boolean
  constructor(reason: DeliveryReason, message: string, options: FailureOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.reason = reason
    this.retryable = options.retryable ?? reason !== 'push_rejected'
  }
}
