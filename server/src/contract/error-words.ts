import type { ErrorCode } from '../domain/error.ts'

interface ErrorWords {
  meaning: string
  /** What to do about it. */
  remedy: string
}

/** Every error code for people; `docs/errors.md` and `/docs` are made from this. */
export const ERROR_WORDS: Readonly<Record<ErrorCode, ErrorWords>> = {
  INVALID_REQUEST: {
    meaning: 'The request cannot be read, or has mistakes of several kinds.',
    remedy: 'Mend what `details.errors` lists.',
  },
  MISSING_FIELD: {
    meaning: 'A required field is missing.',
    remedy: 'Add the fields that `details.errors` lists.',
  },
  INVALID_FORMAT: {
    meaning: 'A field has the wrong type or form. Nothing is converted in bodies.',
    remedy: 'Mend the fields that `details.errors` lists.',
  },
  INVALID_VALUE: {
    meaning: 'A field has a value that is not possible.',
    remedy: 'Mend the fields that `details.errors` lists.',
  },
  UNKNOWN_FIELD: {
    meaning: 'A field or query parameter is not known here.',
    remedy: 'Remove it, or look for a typing error.',
  },
  MISSING_API_KEY: { meaning: 'No key was sent.', remedy: 'Send `Authorization: Bearer KEY`.' },
  INVALID_API_KEY: { meaning: 'The key does not exist or was revoked.', remedy: 'Use another key.' },
  INVALID_API_KEY_FORMAT: {
    meaning: 'What was sent cannot be a key: it was cut or mistyped.',
    remedy: 'Copy the whole key again.',
  },
  EXPIRED_API_KEY: { meaning: 'The key has expired.', remedy: 'Make a new one.' },
  INSUFFICIENT_CREDITS: {
    meaning: 'The account cannot cover what the run reserves (`details.required`, `details.available`).',
    remedy: 'Add credits, or lower `constraints.maxCredits`.',
  },
  BUDGET_EXCEEDED: {
    meaning: 'A budget is used up; `details` names it.',
    remedy: 'Raise the budget, or wait.',
  },
  INSUFFICIENT_PERMISSIONS: {
    meaning: 'The key lacks a scope (`details.requiredScope`).',
    remedy: 'Use a key that has it.',
  },
  POLICY_DENIED: { meaning: 'A policy forbids this.', remedy: 'Ask whoever is responsible for the policy.' },
  ORGANIZATION_SUSPENDED: { meaning: 'The organisation is suspended.', remedy: 'Ask the operator.' },
  RESOURCE_NOT_FOUND: {
    meaning:
      'There is no such thing, or not for this key: other organisations, tenants and modes are invisible.',
    remedy: 'Check the id, and whether the key is a live or a test key.',
  },
  METHOD_NOT_ALLOWED: {
    meaning: 'The path exists, but not with this method.',
    remedy: 'See the `Allow` header.',
  },
  CONFLICT: {
    meaning: 'This is not possible in the present state.',
    remedy: 'Look at the object and decide again.',
  },
  RUN_FINISHED: {
    meaning: 'The run has completed or failed; final states never change.',
    remedy: 'Nothing is left to do; a new run can be made with retry.',
  },
  TOOL_CALL_RESOLVED: { meaning: 'The tool call has another result already.', remedy: 'Look at the run.' },
  APPROVAL_DECIDED: { meaning: 'The approval was decided otherwise.', remedy: 'Look at the approval.' },
  APPROVAL_STALE: {
    meaning: 'What was to be approved has changed since.',
    remedy: 'Look at the new approval and decide on that.',
  },
  EFFECTS_EXIST: {
    meaning: 'The run wrote outside its workspace, or may have (`details.effects`).',
    remedy: 'Send `acceptEffects: true` to repeat it anyway.',
  },
  IDEMPOTENCY_IN_FLIGHT: {
    meaning: 'A request with the same `Idempotency-Key` is being answered.',
    remedy: 'Send it again after `Retry-After`.',
  },
  EVENTS_PURGED: { meaning: 'The events asked for are no longer kept.', remedy: 'Read the run itself.' },
  PRECONDITION_FAILED: {
    meaning: 'The object has changed since the `ETag` in `If-Match`.',
    remedy: 'Read it again and repeat the change.',
  },
  PAYLOAD_TOO_LARGE: { meaning: 'The body is too large.', remedy: 'Send less: at most 1 MB.' },
  UNSUPPORTED_MEDIA_TYPE: {
    meaning: 'The body is not JSON.',
    remedy: 'Send `Content-Type: application/json`.',
  },
  IDEMPOTENCY_KEY_REUSED: {
    meaning: 'The `Idempotency-Key` was used with another body.',
    remedy: 'Use a new key for a new request.',
  },
  TOOL_RESULT_INVALID: {
    meaning: 'The result does not fit the output schema of the tool.',
    remedy: 'Mend what `details.errors` lists.',
  },
  SCHEMA_INVALID: { meaning: 'A schema that was supplied is itself not valid.', remedy: 'Mend the schema.' },
  RATE_LIMITED: {
    meaning: 'Too many requests in a minute (`details.limit`, `details.resetAt`).',
    remedy: 'Wait for `Retry-After` seconds.',
  },
  QUEUE_FULL: { meaning: 'Too many runs are waiting.', remedy: 'Try again when some have started.' },
  TOO_MANY_STREAMS: { meaning: 'Too many streams are open.', remedy: 'Close some.' },
  INTERNAL_ERROR: {
    meaning: 'A mistake of ours. It has been logged under the request id.',
    remedy:
      'Send the request again with the same `Idempotency-Key`; name the request id when you ask for help.',
  },
  SERVICE_UNAVAILABLE: {
    meaning: 'The server is starting, stopping, or without its database.',
    remedy: 'Send the request again after `Retry-After`.',
  },
}
