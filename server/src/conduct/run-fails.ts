import type { Delivery, FailedReason, Stage } from '../domain/lifecycle.ts'

export interface FailureFacts {
  reason: FailedReason
  stage: Stage
  /** One sentence that says what happened and what to do. */
  message: string
  retryable?: boolean
  hint?: string
  details?: { [key: string]: unknown }
  delivery?: Delivery | null
}

/** The run ends here, for a reason of the table. */
export class RunFails extends Error {
  override readonly name = 'RunFails'
  readonly facts: FailureFacts
  constructor(facts: FailureFacts, cause?: unknown) {
    super(facts.message, cause === undefined ? undefined : { cause })
    this.facts = facts
  }
}
