export interface PullRequest {
  number: number
  /** Where a person looks at it. */
  url: string
}

export interface PullRequestDraft {
  title: string
  /** Markdown. */
  body: string
  /** The branch with the result, in the repository itself. */
  head: string
  /** The branch it is meant for. */
  base: string
  draft: boolean
  labels: readonly string[]
  /** User names on the forge. */
  reviewers: readonly string[]
}

export interface OpenedPullRequest extends PullRequest {
  /** `found`: one for the same branches was open already, as after a crash between asking and hearing. */
  outcome: 'created' | 'found'
  /** Labels or reviewers that the forge did not take; the pull request stands without them. */
  warnings: string[]
}

export interface CommitStatus {
  state: 'pending' | 'success' | 'failure' | 'error'
  /** The line's name, such as `agentgate`. */
  context: string
  description: string
  targetUrl?: string
}

/** What a code host offers beyond git, for one repository. Every method throws `DeliveryError`. */
export interface Forge {
  repository(signal?: AbortSignal): Promise<{ defaultBranch: string; isPrivate: boolean; url: string }>
  branchHead(branch: string, signal?: AbortSignal): Promise<string | undefined>
  findOpenPullRequest(head: string, base: string, signal?: AbortSignal): Promise<PullRequest | undefined>
  /** Opens the pull request, or takes the open one for the same branches: calling again is harmless. */
  createPullRequest(draft: PullRequestDraft, signal?: AbortSignal): Promise<OpenedPullRequest>
  comment(pullRequest: number, body: string, signal?: AbortSignal): Promise<void>
  setStatus(commit: string, status: CommitStatus, signal?: AbortSignal): Promise<void>
}
