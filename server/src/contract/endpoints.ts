/**
 * Every endpoint there is. The server registers its routes from this table and from nothing else; `openapi.json`,
 * the door suite and `/docs` are read from it too.
 */
import type { TObject } from '@sinclair/typebox'
import {
  ApiKey,
  CreatedKey,
  CreateGitCredentialRequest,
  CreateGrantRequest,
  CreateKeyRequest,
  CreditBalance,
  CreditTransaction,
  CreditUsage,
  CreditUsageQuery,
  GitCredential,
  ListGitCredentialsQuery,
  ListKeysQuery,
  RotateWebhookSecretRequest,
  WebhookSecret,
} from './account.ts'
import { Health, Readiness, Version } from './operations.ts'
import { pageOf, pageQuery } from './page.ts'
import {
  Artifact,
  CreateRunRequest,
  EventPage,
  ListEventsQuery,
  ListRunsQuery,
  RetryRunRequest,
  Run,
} from './run.ts'
import { closed, type TSchema } from './schema.ts'
import type { Scope } from './scope.ts'
import { CreatedWorkOrder, CreateWorkOrderRequest, ListWorkOrdersQuery, WorkOrder } from './work-order.ts'

/** Which allowance a request is counted against. */
export type Bucket = 'reads' | 'writes' | 'submissions' | 'control'

/** A JSON answer by its schema, or another media type. */
export type AnswerBody = { json: TSchema } | { mediaType: string }

/** The sections of the API. */
export const TAGS = {
  'Work orders': 'Have an agent work on a repository and deliver a verified change.',
  Runs: 'Single executions by an agent: start, watch, stop, repeat, and fetch what they leave behind.',
  Keys: 'API keys and what they may do.',
  'Git credentials': 'What the gateway uses to clone and push; never shown to an agent.',
  Credits: 'What runs cost. One credit is one cent.',
  Webhooks: 'What deliveries to `webhookUrl` are signed with.',
  Operations: 'For whoever runs the server; without a key.',
} as const

export interface Endpoint {
  method: 'GET' | 'POST' | 'DELETE'
  /** As in OpenAPI: `{id}` stands for one segment. */
  path: string
  tag: keyof typeof TAGS
  summary: string
  /** What a key must be allowed to do; `null` needs no key. */
  scope: Scope | null
  bucket: Bucket | null
  /** Keys bound to a tenant have no business here. */
  organizationOnly?: true
  /** Path parameters that are ids, with their kind; a malformed one is answered like a missing object. */
  ids?: Readonly<Record<string, string>>
  query?: TObject
  body?: TObject
  /** Every field of the body also has its snake_case name. */
  aliases?: true
  /** `Prefer: wait=N` is honoured. */
  waits?: true
  /** `Idempotency-Key` is honoured; so on every POST. */
  idempotent: boolean
  answers: Readonly<Record<number, { description: string; body?: AnswerBody }>>
}

const answer = <S extends TSchema>(description: string, schema: S) => ({
  description,
  body: { json: schema },
})

const DONE = { 204: { description: 'Done.' } }
const plain = (mediaType: string, description: string) => ({ 200: { description, body: { mediaType } } })

export const ENDPOINTS = {
  createWorkOrder: {
    method: 'POST',
    path: '/v1/work-orders',
    tag: 'Work orders',
    summary: 'Have an agent work on a repository.',
    scope: 'work-orders:write',
    bucket: 'submissions',
    body: CreateWorkOrderRequest,
    waits: true,
    idempotent: true,
    answers: { 201: answer('The order and its first run, queued.', CreatedWorkOrder) },
  },
  listWorkOrders: {
    method: 'GET',
    path: '/v1/work-orders',
    tag: 'Work orders',
    summary: 'List work orders, newest first.',
    scope: 'work-orders:read',
    bucket: 'reads',
    query: ListWorkOrdersQuery,
    idempotent: false,
    answers: { 200: answer('A page of work orders.', pageOf(WorkOrder)) },
  },
  getWorkOrder: {
    method: 'GET',
    path: '/v1/work-orders/{id}',
    tag: 'Work orders',
    summary: 'Look at a work order and how its newest run stands.',
    scope: 'work-orders:read',
    bucket: 'reads',
    ids: { id: 'wo' },
    idempotent: false,
    answers: { 200: answer('The work order.', WorkOrder) },
  },
  createRun: {
    method: 'POST',
    path: '/v1/runs',
    tag: 'Runs',
    summary: 'Start an agent.',
    scope: 'runs:write',
    bucket: 'submissions',
    body: CreateRunRequest,
    aliases: true,
    waits: true,
    idempotent: true,
    answers: { 201: answer('The run, queued.', Run) },
  },
  listRuns: {
    method: 'GET',
    path: '/v1/runs',
    tag: 'Runs',
    summary: 'List runs, newest first.',
    scope: 'runs:read',
    bucket: 'reads',
    query: ListRunsQuery,
    idempotent: false,
    answers: { 200: answer('A page of runs.', pageOf(Run)) },
  },
  getRun: {
    method: 'GET',
    path: '/v1/runs/{id}',
    tag: 'Runs',
    summary: 'Look at a run, or wait until it is final or needs an action.',
    scope: 'runs:read',
    bucket: 'reads',
    ids: { id: 'run' },
    waits: true,
    idempotent: false,
    answers: { 200: answer('The run.', Run) },
  },
  cancelRun: {
    method: 'POST',
    path: '/v1/runs/{id}/cancel',
    tag: 'Runs',
    summary: 'Stop a run. It is charged for what was done.',
    scope: 'runs:write',
    bucket: 'control',
    ids: { id: 'run' },
    idempotent: true,
    answers: { 200: answer('The run is canceled.', Run), 202: answer('The run is stopping.', Run) },
  },
  retryRun: {
    method: 'POST',
    path: '/v1/runs/{id}/retry',
    tag: 'Runs',
    summary: 'Repeat a final run: a new run with the same input.',
    scope: 'runs:write',
    bucket: 'submissions',
    ids: { id: 'run' },
    body: RetryRunRequest,
    waits: true,
    idempotent: true,
    answers: { 201: answer('The new run, queued.', Run) },
  },
  listRunEvents: {
    method: 'GET',
    path: '/v1/runs/{id}/events',
    tag: 'Runs',
    summary: 'Read a run’s log, oldest first.',
    scope: 'runs:read',
    bucket: 'reads',
    ids: { id: 'run' },
    query: ListEventsQuery,
    idempotent: false,
    answers: { 200: answer('A page of events.', EventPage) },
  },
  listArtifacts: {
    method: 'GET',
    path: '/v1/runs/{id}/artifacts',
    tag: 'Runs',
    summary: 'List what a run left behind.',
    scope: 'runs:read',
    bucket: 'reads',
    ids: { id: 'run' },
    query: closed(pageQuery),
    idempotent: false,
    answers: { 200: answer('A page of artifacts.', pageOf(Artifact)) },
  },
  getArtifact: {
    method: 'GET',
    path: '/v1/runs/{id}/artifacts/{name}',
    tag: 'Runs',
    summary: 'Download an artifact.',
    scope: 'runs:read',
    bucket: 'reads',
    ids: { id: 'run' },
    idempotent: false,
    answers: plain('application/octet-stream', 'Its bytes, under its own content type.'),
  },
  createKey: {
    method: 'POST',
    path: '/v1/keys',
    tag: 'Keys',
    summary: 'Make an API key that may do no more than this one.',
    scope: 'keys:write',
    bucket: 'writes',
    body: CreateKeyRequest,
    idempotent: true,
    answers: { 201: answer('The key, shown this once.', CreatedKey) },
  },
  listKeys: {
    method: 'GET',
    path: '/v1/keys',
    tag: 'Keys',
    summary: 'List API keys, newest first.',
    scope: 'keys:read',
    bucket: 'reads',
    query: ListKeysQuery,
    idempotent: false,
    answers: { 200: answer('A page of keys.', pageOf(ApiKey)) },
  },
  getKey: {
    method: 'GET',
    path: '/v1/keys/{id}',
    tag: 'Keys',
    summary: 'Look at an API key.',
    scope: 'keys:read',
    bucket: 'reads',
    ids: { id: 'key' },
    idempotent: false,
    answers: { 200: answer('The key, without its secret.', ApiKey) },
  },
  deleteKey: {
    method: 'DELETE',
    path: '/v1/keys/{id}',
    tag: 'Keys',
    summary: 'Revoke an API key; it stops working within five seconds.',
    scope: 'keys:write',
    bucket: 'writes',
    ids: { id: 'key' },
    idempotent: false,
    answers: DONE,
  },
  createGitCredential: {
    method: 'POST',
    path: '/v1/git-credentials',
    tag: 'Git credentials',
    summary: 'Store a credential of a git host.',
    scope: 'git-credentials:write',
    bucket: 'writes',
    organizationOnly: true,
    body: CreateGitCredentialRequest,
    idempotent: true,
    answers: { 201: answer('The credential, without its secret.', GitCredential) },
  },
  listGitCredentials: {
    method: 'GET',
    path: '/v1/git-credentials',
    tag: 'Git credentials',
    summary: 'List credentials of git hosts, newest first.',
    scope: 'git-credentials:read',
    bucket: 'reads',
    organizationOnly: true,
    query: ListGitCredentialsQuery,
    idempotent: false,
    answers: { 200: answer('A page of credentials.', pageOf(GitCredential)) },
  },
  deleteGitCredential: {
    method: 'DELETE',
    path: '/v1/git-credentials/{id}',
    tag: 'Git credentials',
    summary: 'Forget a credential.',
    scope: 'git-credentials:write',
    bucket: 'writes',
    organizationOnly: true,
    ids: { id: 'cred' },
    idempotent: false,
    answers: DONE,
  },
  getCredits: {
    method: 'GET',
    path: '/v1/credits',
    tag: 'Credits',
    summary: 'Look at the balance.',
    scope: 'credits:read',
    bucket: 'reads',
    organizationOnly: true,
    idempotent: false,
    answers: { 200: answer('The balance.', CreditBalance) },
  },
  listCreditUsage: {
    method: 'GET',
    path: '/v1/credits/usage',
    tag: 'Credits',
    summary: 'List what moved the balance, newest first.',
    scope: 'credits:read',
    bucket: 'reads',
    query: CreditUsageQuery,
    idempotent: false,
    answers: { 200: answer('A page of transactions.', CreditUsage) },
  },
  grantCredits: {
    method: 'POST',
    path: '/v1/credits/grants',
    tag: 'Credits',
    summary: 'Add credits.',
    scope: 'admin:*',
    bucket: 'writes',
    organizationOnly: true,
    body: CreateGrantRequest,
    idempotent: true,
    answers: { 201: answer('The transaction.', CreditTransaction) },
  },
  getWebhookSecret: {
    method: 'GET',
    path: '/v1/webhook-secret',
    tag: 'Webhooks',
    summary: 'Look at the default webhook secret. Who knows it can sign, so this takes the scope to write.',
    scope: 'webhooks:write',
    bucket: 'reads',
    idempotent: false,
    answers: { 200: answer('The secret.', WebhookSecret) },
  },
  rotateWebhookSecret: {
    method: 'POST',
    path: '/v1/webhook-secret/rotate',
    tag: 'Webhooks',
    summary: 'Make a new default webhook secret; deliveries carry both signatures for 24 hours.',
    scope: 'webhooks:write',
    bucket: 'writes',
    body: RotateWebhookSecretRequest,
    idempotent: true,
    answers: { 200: answer('The secret in force.', WebhookSecret) },
  },
  getHealth: {
    method: 'GET',
    path: '/healthz',
    tag: 'Operations',
    summary: 'Whether the process answers.',
    scope: null,
    bucket: null,
    idempotent: false,
    answers: { 200: answer('It does.', Health) },
  },
  getReadiness: {
    method: 'GET',
    path: '/readyz',
    tag: 'Operations',
    summary: 'Whether the server takes work.',
    scope: null,
    bucket: null,
    idempotent: false,
    answers: { 200: answer('It does.', Readiness), 503: answer('Not now.', Readiness) },
  },
  getMetrics: {
    method: 'GET',
    path: '/metrics',
    tag: 'Operations',
    summary: 'Metrics in the Prometheus text format.',
    scope: null,
    bucket: null,
    idempotent: false,
    answers: plain('text/plain', 'All metrics.'),
  },
  getVersion: {
    method: 'GET',
    path: '/version',
    tag: 'Operations',
    summary: 'The version of the server.',
    scope: null,
    bucket: null,
    idempotent: false,
    answers: { 200: answer('The version.', Version) },
  },
  getOpenApi: {
    method: 'GET',
    path: '/openapi.json',
    tag: 'Operations',
    summary: 'This description.',
    scope: null,
    bucket: null,
    idempotent: false,
    answers: plain('application/json', 'OpenAPI 3.1.'),
  },
  getDocs: {
    method: 'GET',
    path: '/docs',
    tag: 'Operations',
    summary: 'The same for people.',
    scope: null,
    bucket: null,
    idempotent: false,
    answers: plain('text/html', 'A page without scripts.'),
  },
} as const satisfies Record<string, Endpoint>

export type Endpoints = typeof ENDPOINTS
export type EndpointId = keyof Endpoints

/** The table as a list, each endpoint with its id. */
export const endpointList: readonly (Endpoint & { id: EndpointId })[] = Object.entries(ENDPOINTS).map(
  ([id, endpoint]) => ({ ...endpoint, id: id as EndpointId }), // Object.entries widens the keys to string
)
