import { setTimeout as sleep } from 'node:timers/promises'
import { Octokit } from '@octokit/rest'
import { type Backoff, backoffMs } from '../../lib/backoff.ts'
import type { Secret } from '../../lib/secret.ts'
import { DeliveryError } from '../failures.ts'
import type { CommitStatus, Forge, OpenedPullRequest, PullRequest, PullRequestDraft } from './forge.ts'

export interface GitHubForgeOptions {
  /** `https://api.github.com`, or `https://HOST/api/v3` of an own server. */
  apiBaseUrl: string
  token: Secret
  owner: string
  name: string
  /** How requests leave the server; the process's own `fetch` unless given. */
  fetch?: typeof fetch
  /** Between two tries of one request. */
  backoff?: Backoff
}

const TRIES = 4
const REQUEST_MS = 30_000
const LONGEST_WAIT_MS = 60_000
const BACKOFF: Backoff = { firstMs: 500, factor: 3, maxMs: 10_000 }
const TITLE_UNITS = 250
const STATUS_UNITS = 140

const silent = () => {}

interface Refusal {
  status: number
  message: string
  retryAfterMs: number | undefined
  /** Every sentence of a 422. */
  errors: string
}

/** What a failed request says, whatever threw it. Network trouble has status 0. */
function refusalOf(error: unknown): Refusal {
  const { status, message, response } = error as {
    status?: number
    message?: string
    response?: { headers?: Record<string, string | undefined>; data?: { message?: string; errors?: unknown } }
  }
  const headers = response?.headers ?? {}
  const retryAfter = Number(headers['retry-after'])
  return {
    // The client library reports a request without an answer as a 500 without a response.
    status: response === undefined ? 0 : (status ?? 0),
    message: (response?.data?.message ?? message ?? '').replace(/\p{Cc}/gu, ' ').slice(0, 200),
    retryAfterMs: headers['retry-after'] === undefined ? undefined : (retryAfter || 1) * 1000,
    errors: JSON.stringify(response?.data?.errors ?? ''),
  }
}

const isWorthAnother = ({ status, retryAfterMs }: Refusal): boolean =>
  status === 0 ||
  status === 408 ||
  status === 429 ||
  status >= 500 ||
  (status === 403 && retryAfterMs !== undefined)

function deliveryError(repository: string, refusal: Refusal, cause: unknown): DeliveryError {
  const { status, message } = refusal
  if (status === 401)
    return new DeliveryError(
      'push_rejected',
      `The forge did not accept the credential for ${repository}: store a valid one for publishing.`,
      { cause },
    )
  if (status === 403)
    return new DeliveryError(
      'push_rejected',
      `The credential may not open pull requests on ${repository}: ${message}`,
      { cause },
    )
  if (status === 404)
    return new DeliveryError(
      'push_rejected',
      `The forge shows no repository ${repository} to this credential: give it access.`,
      { cause },
    )
  if (status === 422)
    return new DeliveryError(
      'delivery_failed',
      `The forge refused the pull request for ${repository}: ${message} ${refusal.errors.slice(0, 300)}`,
      { cause, retryable: false },
    )
  if (isWorthAnother(refusal))
    return new DeliveryError(
      'delivery_failed',
      `The forge of ${repository} did not answer well after ${TRIES} tries: try again later.`,
      { cause },
    )
  return new DeliveryError('delivery_failed', `The forge of ${repository} answered ${status}: ${message}`, {
    cause,
    retryable: false,
  })
}

type Send<T> = (request: { signal: AbortSignal }) => Promise<{ status: number; data: T }>

/** GitHub, or a server that speaks its REST API. */
export class GitHubForge implements Forge {
  readonly #octokit: Octokit
  readonly #backoff: Backoff
  readonly #own: { owner: string; repo: string }
  readonly #label: string

  constructor({ apiBaseUrl, token, owner, name, fetch: own, backoff = BACKOFF }: GitHubForgeOptions) {
    this.#backoff = backoff
    this.#own = { owner, repo: name }
    this.#label = `${owner}/${name}`
    this.#octokit = new Octokit({
      auth: token.reveal(),
      baseUrl: apiBaseUrl,
      userAgent: 'agentgate',
      log: { debug: silent, info: silent, warn: silent, error: silent },
      request: { redirect: 'manual', ...(own === undefined ? {} : { fetch: own }) },
    })
  }

  async repository(signal?: AbortSignal) {
    const send: Send<RepositoryAnswer> = (request) => this.#octokit.rest.repos.get({ ...this.#own, request })
    const found = await this.#answer(signal, send)
    return { defaultBranch: found.default_branch, isPrivate: found.private, url: found.html_url }
  }

  async branchHead(branch: string, signal?: AbortSignal): Promise<string | undefined> {
    try {
      const ref = `heads/${branch}`
      const found = await this.#ask(signal, (request) =>
        this.#octokit.rest.git.getRef({ ...this.#own, ref, request }),
      )
      return found.object.sha
    } catch (error) {
      if (refusalOf(error).status === 404) return undefined
      throw this.#named(error, signal)
    }
  }

  async findOpenPullRequest(
    head: string,
    base: string,
    signal?: AbortSignal,
  ): Promise<PullRequest | undefined> {
    const wanted = {
      ...this.#own,
      head: `${this.#own.owner}:${head}`,
      base,
      state: 'open',
      per_page: 1,
    } as const
    const [found] = await this.#answer(signal, (request) =>
      this.#octokit.rest.pulls.list({ ...wanted, request }),
    )
    return found === undefined ? undefined : { number: found.number, url: found.html_url }
  }

  async createPullRequest(draft: PullRequestDraft, signal?: AbortSignal): Promise<OpenedPullRequest> {
    const made = await this.#createOrFind(draft, signal)
    const warnings: string[] = []
    const attach = async (what: string, names: readonly string[], send: Send<unknown>) => {
      if (names.length === 0) return
      await this.#answer(signal, send).catch((error: unknown) => {
        if (!(error instanceof DeliveryError)) throw error
        warnings.push(`The ${what} were not set: ${error.message}`)
      })
    }
    const { labels, reviewers } = draft
    await attach('labels', labels, (request) =>
      this.#octokit.rest.issues.addLabels({
        ...this.#own,
        issue_number: made.number,
        labels: [...labels],
        request,
      }),
    )
    await attach('reviewers', reviewers, (request) =>
      this.#octokit.rest.pulls.requestReviewers({
        ...this.#own,
        pull_number: made.number,
        reviewers: [...reviewers],
        request,
      }),
    )
    return { ...made, warnings }
  }

  async comment(pullRequest: number, body: string, signal?: AbortSignal): Promise<void> {
    await this.#answer<unknown>(signal, (request) =>
      this.#octokit.rest.issues.createComment({ ...this.#own, issue_number: pullRequest, body, request }),
    )
  }

  async setStatus(commit: string, status: CommitStatus, signal?: AbortSignal): Promise<void> {
    const { state, context, description, targetUrl } = status
    await this.#answer<unknown>(signal, (request) =>
      this.#octokit.rest.repos.createCommitStatus({
        ...this.#own,
        sha: commit,
        state,
        context,
        description: description.slice(0, STATUS_UNITS),
        ...(targetUrl === undefined ? {} : { target_url: targetUrl }),
        request,
      }),
    )
  }

  /** Creating may have worked although its answer was lost: then the second try hears that it exists. */
  async #createOrFind(draft: PullRequestDraft, signal?: AbortSignal) {
    const { title, body, head, base } = draft
    const wanted = { ...this.#own, title: title.slice(0, TITLE_UNITS), body, head, base, draft: draft.draft }
    try {
      const made = await this.#ask(signal, (request) =>
        this.#octokit.rest.pulls.create({ ...wanted, request }),
      )
      return { outcome: 'created' as const, number: made.number, url: made.html_url }
    } catch (error) {
      const { status, errors } = refusalOf(error)
      const isThere = status === 422 && /already exists/i.test(errors)
      const found = isThere ? await this.findOpenPullRequest(head, base, signal) : undefined
      if (found === undefined) throw this.#named(error, signal)
      return { outcome: 'found' as const, ...found }
    }
  }

  /** One request with its tries. Throws what the last try threw. */
  async #ask<T>(signal: AbortSignal | undefined, send: Send<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted()
      const timeout = AbortSignal.timeout(REQUEST_MS)
      try {
        const both = signal === undefined ? timeout : AbortSignal.any([signal, timeout])
        const answer = await send({ signal: both })
        if (answer.status < 300) return answer.data
        const sentence = `The forge redirects ${this.#label} elsewhere: use its present address.`
        throw new DeliveryError('delivery_failed', sentence, { retryable: false })
      } catch (error) {
        if (error instanceof DeliveryError || signal?.aborted) throw error
        const refusal = refusalOf(error)
        if (attempt === TRIES || !isWorthAnother(refusal)) throw error
        const wait = refusal.retryAfterMs ?? backoffMs(this.#backoff, attempt, Math.random())
        await sleep(Math.min(wait, LONGEST_WAIT_MS), undefined, signal === undefined ? {} : { signal })
      }
    }
  }

  async #answer<T>(signal: AbortSignal | undefined, send: Send<T>): Promise<T> {
    try {
      return await this.#ask(signal, send)
    } catch (error) {
      throw this.#named(error, signal)
    }
  }

  /** A failure in the words of a delivery; a cancel keeps its own reason. */
  #named(error: unknown, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted) return signal.reason
    return error instanceof DeliveryError ? error : deliveryError(this.#label, refusalOf(error), error)
  }
}

interface RepositoryAnswer {
  default_branch: string
  private: boolean
  html_url: string
}
