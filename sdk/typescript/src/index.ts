export { AgentGate, type AgentGateOptions } from './client.ts'
export {
  AgentGateError,
  APIError,
  AuthenticationError,
  BadRequestError,
  ConflictError,
  ConnectionError,
  InsufficientCreditsError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
  ServerError,
  TimeoutError,
  UnprocessableError,
  WebhookVerificationError,
} from './errors.ts'
export type * from './events.ts'
export { isFinalEvent } from './events.ts'
export { Page, PagePromise } from './page.ts'
export type { ArtifactContent } from './resources/artifacts.ts'
export type { EventsParams, RetryRunRequest } from './resources/runs.ts'
export type { RotateSecretRequest } from './resources/webhook-secret.ts'
export type { RequestOptions } from './transport.ts'
export type * from './types.ts'
export { VERSION } from './version.ts'
export type { WaitOptions } from './wait.ts'
export {
  createVerifier,
  type RawBody,
  type UnwrapOptions,
  unwrapWebhook,
  type VerifiableRequest,
  verifySignature,
  type WebhookHeaders,
} from './webhooks.ts'
