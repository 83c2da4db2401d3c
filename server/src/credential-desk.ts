import type { Config } from './config.ts'
import type { Mode } from './domain/facts.ts'
import type { SigningSecret } from './domain/webhook.ts'
import type { Clock } from './lib/clock.ts'
import { createRedactor, type Redaction, type Redactor, type RedactorOptions } from './lib/redact.ts'
import type { Secret } from './lib/secret.ts'
import type { Database } from './storage/database.ts'
import {
  findGitCredential,
  type GitCredentialRow,
  gitCredentialPlace,
  listSealedGitCredentials,
  touchGitCredential,
} from './storage/git-credentials.ts'
import { findRedaction } from './storage/organizations.ts'
import { findWebhookSecret, getOrInsertWebhookSecret, webhookSecretPlace } from './storage/webhook-secrets.ts'
import { mintWebhookSecret } from './vault/keys.ts'
import type { Vault } from './vault/vault.ts'
import type { Forge } from './workspaces/forges/forge.ts'
import { apiBaseUrlOf, forgeFor } from './workspaces/forges/forge-for.ts'
import type { GitCredential } from './workspaces/remote.ts'
import type { CredentialRequest } from './workspaces/workspaces.ts'

/** How long the setting of an organisation is believed. */
const REDACTION_MS = 5_000

export interface CredentialDeskOptions {
  database: Database
  vault: Vault
  config: Pick<Config, 'githubHosts' | 'providers'>
  clock: Clock
  /** Reaches forges, and nothing that a caller should not make us reach. */
  forgeFetch: typeof fetch
}

/** What people give a local model server that wants no key: `ollama`, `not-needed`. It is a word, and texts hold it. */
const PLACEHOLDER = /^(?!sk-)[a-z]+(?:[-_][a-z]+)*$/

/** Opens stored git credentials for the worker's own git and for forges, and to know what to mask; for nobody else. */
export class CredentialDesk {
  readonly #options: CredentialDeskOptions
  readonly #redactions = new Map<string, { redaction: Redaction; at: number }>()

  constructor(options: CredentialDeskOptions) {
    this.#options = options
  }

  /** For reading, a credential that may publish will do where there is none for reading alone. */
  async gitCredential({ organisation, host, use }: CredentialRequest): Promise<GitCredential | undefined> {
    const [organizationId = '', mode = 'live'] = organisation.split('/')
    const owner = { organizationId, mode: mode as Mode }
    const row =
      (await this.#find(owner, host, use)) ??
      (use === 'read' ? await this.#find(owner, host, 'publish') : undefined)
    if (row === undefined) return undefined
    return { username: row.username ?? 'x-access-token', password: await this.#open(row) }
  }

  /** The forge of a repository, or nothing where no API or no publishing credential is known. */
  async forge(organization: { id: string; mode: string }, repository: string): Promise<Forge | undefined> {
    const { host } = new URL(repository)
    const owner = { organizationId: organization.id, mode: organization.mode as Mode }
    const row = await this.#find(owner, host, 'publish')
    if (row === undefined) return undefined
    return forgeFor(repository, {
      apiBaseUrls: this.#forgesWith(row),
      token: await this.#open(row),
      fetch: this.#options.forgeFetch,
    })
  }

  /** Whether the host of a repository is known to have an API for pull requests, with or without a credential. */
  async knowsForge(owner: { organizationId: string; mode: Mode }, repository: string): Promise<boolean> {
    const { host } = new URL(repository)
    return apiBaseUrlOf(host, this.#forgesWith(await this.#find(owner, host, 'publish'))) !== undefined
  }

  #forgesWith(row: GitCredentialRow | undefined): Readonly<Record<string, string>> {
    const { githubHosts } = this.#options.config
    return row === undefined || row.apiBaseUrl === null
      ? githubHosts
      : { ...githubHosts, [row.host]: row.apiBaseUrl }
  }

  /** Masks this gateway's own keys and, where a run has a workspace, what its owner's git hosts accept. */
  async redactorOf(
    run: { organizationId: string; mode: Mode; hasWorkspace: boolean },
    { secrets: others = [], ...options }: Partial<Omit<RedactorOptions, 'redaction'>>,
  ): Promise<Redactor> {
    const { database, vault, config } = this.#options
    const keys = Object.values(config.providers)
      .map(({ apiKey }) => apiKey.reveal())
      .filter((key) => !PLACEHOLDER.test(key))
    const rows = run.hasWorkspace ? await listSealedGitCredentials(database, run) : []
    const secrets = rows.map((row) => vault.open(row.sealed, gitCredentialPlace(row)).reveal())
    const redaction = await this.#redaction(run.organizationId)
    return createRedactor({ redaction, secrets: [...keys, ...secrets, ...others], ...options })
  }

  /** For what a receiver of webhooks says: masks all that is masked in runs, and what signs its webhooks. */
  async receiverRedactor(
    { organizationId, tenantId, mode }: { organizationId: string; tenantId: string; mode: Mode },
    options: Pick<RedactorOptions, 'onMasked'>,
  ): Promise<Redactor> {
    const { current, previous } = await this.signingSecret(organizationId, tenantId, mode)
    const signing = [current, ...(previous === undefined ? [] : [previous.secret])].map((one) => one.reveal())
    // A receiver may know the key only without its prefix.
    const secrets = signing.flatMap((key) => [key, key.replace(/^whsec_/, '')])
    return this.redactorOf({ organizationId, mode, hasWorkspace: true }, { ...options, secrets })
  }

  /** Asked once in a while, not for every run. */
  async #redaction(organizationId: string): Promise<Redaction> {
    const { database, clock } = this.#options
    const known = this.#redactions.get(organizationId)
    const at = clock.monotonic()
    if (known !== undefined && at - known.at < REDACTION_MS) return known.redaction
    const redaction = await findRedaction(database, organizationId)
    this.#redactions.set(organizationId, { redaction, at })
    return redaction
  }

  /** What signs the webhooks of an organisation or a tenant; made when it is first needed. */
  async signingSecret(organizationId: string, tenantId: string, mode: Mode): Promise<SigningSecret> {
    const { database, vault, clock } = this.#options
    const owner = { organizationId, tenantId, mode }
    const place = webhookSecretPlace(owner)
    const row =
      (await findWebhookSecret(database, owner)) ??
      (await getOrInsertWebhookSecret(database, owner, {
        sealed: vault.seal(mintWebhookSecret(), place),
        at: new Date(clock.now()),
      }))
    const { previousSealed, previousUntil } = row
    const current = vault.open(row.sealed, place)
    if (previousSealed === null || previousUntil === null) return { current }
    return {
      current,
      previous: { secret: vault.open(previousSealed, place), untilMs: previousUntil.getTime() },
    }
  }

  #find(owner: { organizationId: string; mode: Mode }, host: string, use: 'read' | 'publish') {
    return findGitCredential(this.#options.database, owner, { host: host.toLowerCase(), use })
  }

  async #open(row: GitCredentialRow): Promise<Secret> {
    const { database, vault, clock } = this.#options
    await touchGitCredential(database, row.id, new Date(clock.now()))
    return vault.open(row.sealed, gitCredentialPlace(row))
  }
}
