import type { Failure } from '../domain/ends.ts'

/** The run ends here, for a reason of the table. */
export class RunFails extends Error {
  override readonly name = 'RunFails'
  readonly failure: Failure
  constructor(failure: Failure, cause?: unknown) {
    super(failure.message, cause === undefined ? undefined : { cause })
    this.failure = failure
  }
}
