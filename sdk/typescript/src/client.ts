import { AgentGateError } from './errors.ts'
import { Credits } from './resources/credits.ts'
import { GitCredentials } from './resources/git-credentials.ts'
import { Keys } from './resources/keys.ts'
import { Runs } from './resources/runs.ts'
import { DefaultWebhookSecret } from './resources/webhook-secret.ts'
import { WorkOrders } from './resources/work-orders.ts'
import { Transport } from './transport.ts'

export interface AgentGateOptions {
  /** Default: the environment's `AGENTGATE_API_KEY`. */
  apiKey?: string | undefined
  /** The gate's address, such as `http://127.0.0.1:4000`. Default: the environment's `AGENTGATE_BASE_URL`. */
  baseUrl?: string | undefined
  /** Milliseconds one attempt may take. Default 30,000. */
  timeout?: number | undefined
  /** How often a failed attempt is repeated. Default 3. */
  maxRetries?: number | undefined
  /** Another name of `maxRetries`. */
  retries?: number | undefined
  /** Used instead of the runtime's own. */
  fetch?: typeof fetch | undefined
}

/** A client of one gate, with one key. */
export class AgentGate {
  readonly workOrders: WorkOrders
  readonly runs: Runs
  readonly credits: Credits
  readonly keys: Keys
  readonly gitCredentials: GitCredentials
  readonly webhookSecret: DefaultWebhookSecret

  constructor(options: AgentGateOptions = {}) {
    const transport = new Transport({
      apiKey: required(options.apiKey, 'apiKey', 'AGENTGATE_API_KEY'),
      baseUrl: baseUrlOf(required(options.baseUrl, 'baseUrl', 'AGENTGATE_BASE_URL')),
      timeoutMs: options.timeout ?? 30_000,
      connectTimeoutMs: 5_000,
      maxRetries: options.maxRetries ?? options.retries ?? 3,
      fetch: options.fetch,
    })
    this.workOrders = new WorkOrders(transport)
    this.runs = new Runs(transport)
    this.credits = new Credits(transport)
    this.keys = new Keys(transport)
    this.gitCredentials = new GitCredentials(transport)
    this.webhookSecret = new DefaultWebhookSecret(transport)
  }
}

function required(given: string | undefined, option: string, variable: string): string {
  const value = (given ?? globalThis.process?.env[variable])?.trim()
  if (!value) throw new AgentGateError(`Give new AgentGate() a ${option}, or set ${variable}.`)
  return value
}

function baseUrlOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:$/.test(url.protocol)) {
    throw new AgentGateError(`baseUrl must begin with http:// or https://; it is ${JSON.stringify(text)}.`)
  }
  if (url.username || url.password || url.search || url.hash) {
    throw new AgentGateError('baseUrl must hold no credentials, query or fragment.')
  }
  return (url.origin + url.pathname).replace(/\/+$/, '')
}
