import { DeliveryError, SourceError } from './failures.ts'
import { type Git, type GitCall, GitFailure } from './git.ts'
import type { RepositoryUrl } from './remote.ts'
import { remoteFailure } from './remote-failure.ts'

export interface PushOptions {
  commit: string
  branch: string
  /** The commit that the remote branch must stand at; without one the branch must not exist yet. */
  expected?: string
  /** The branch that the result is meant for: it must still contain the base commit. */
  base?: string
  /** A test run delivers to a bare repository inside the server. */
  to?: 'source' | 'test'
  signal?: AbortSignal
}

export interface PushResult {
  outcome: 'pushed' | 'up_to_date'
}

/** What a push speaks to: the source by its checked address, or a bare repository of our own by its path. */
export interface PushTarget {
  address: string
  url?: RepositoryUrl
  call: Pick<GitCall, 'config' | 'environment'>
}

export interface PushCall {
  git: Git
  store: string
  target: PushTarget
  commit: string
  branch: string
  /** A commit, or empty for a branch that must not exist. */
  expected: string
  signal: AbortSignal | undefined
}

const ASK_MS = 30_000
const PUSH_MS = 10 * 60_000

/** Trouble on the way to a remote, in the words of a delivery. */
export function deliveryFailure(error: unknown, repository: string): unknown {
  if (error instanceof GitFailure)
    return new DeliveryError('delivery_failed', `Pushing to ${repository} failed.`, { cause: error })
  if (!(error instanceof SourceError)) return error
  const { retryable } = error
  if (error.reason === 'source_auth_failed')
    return new DeliveryError(
      'push_rejected',
      `The host refused to let us push to ${repository}: store a credential for publishing under /v1/git-credentials.`,
      { retryable, cause: error },
    )
  return new DeliveryError('delivery_failed', error.message, { retryable, cause: error })
}

const atRemote = (error: unknown, { url }: PushTarget): unknown =>
  url === undefined ? error : remoteFailure(error, url)

/** Where each of the branches stands on the remote; a missing one is not in the answer. */
export async function remoteHeads(
  git: Git,
  target: PushTarget,
  branches: readonly string[],
  signal: AbortSignal | undefined,
): Promise<Map<string, string>> {
  const refs = branches.map((branch) => `refs/heads/${branch}`)
  const answer = await git(['ls-remote', '--', target.address, ...refs], {
    ...target.call,
    signal,
    timeoutMs: ASK_MS,
  }).catch((error: unknown) => {
    throw atRemote(error, target)
  })
  return new Map(
    answer.text.split('\n').flatMap((line) => {
      const [commit, ref] = line.split('\t')
      return commit && ref ? [[ref.slice('refs/heads/'.length), commit] as const] : []
    }),
  )
}

/** What `git push --porcelain` says of a branch, `flag TAB refs TAB what`: the flag is `=` where nothing had to move. */
const wordOn = (said: string, branch: string): string | undefined =>
  said.split('\n').find((line) => line.split('\t')[1]?.endsWith(`:refs/heads/${branch}`))

function refusal(failure: GitFailure, branch: string): DeliveryError | undefined {
  const line = wordOn(failure.stdout, branch)
  if (!line?.startsWith('!')) return undefined
  const why =
    /\((.*)\)\s*$/
      .exec(line)?.[1]
      ?.replace(/\p{Cc}/gu, ' ')
      .slice(0, 200) ?? 'no reason given'
  const sentence = /stale info|fetch first|non-fast-forward|cannot lock ref/.test(line)
    ? `The branch ${branch} was changed by somebody else meanwhile: nothing was pushed.`
    : `The host did not accept the branch ${branch}: ${why}.`
  return new DeliveryError('push_rejected', sentence, { cause: failure })
}

/** One push of one branch, which succeeds only where the branch stands as expected. */
export async function pushBranch(call: PushCall): Promise<PushResult> {
  const { branch, target } = call
  try {
    return await push(call, [])
  } catch (error) {
    throw (error instanceof GitFailure && refusal(error, branch)) || atRemote(error, target)
  }
}

/**
 * The same as long as another branch stands at a commit, which git finds out from what the host tells at the beginning
 * of every push: the branch is named as one to push to, with a lease on that commit, and where it stands there git has
 * nothing to send for it; anywhere else the lease is broken, and as one with it nothing is sent at all. Answers nothing
 * then, and where the host does not know pushes of several branches as one: nothing was pushed.
 */
export async function pushWhile(
  call: PushCall,
  { branch, commit }: { branch: string; commit: string },
): Promise<PushResult | undefined> {
  const ref = `refs/heads/${branch}`
  try {
    return await push(call, ['--atomic', `--force-with-lease=${ref}:${commit}`], `${commit}:${ref}`)
  } catch (error) {
    const isElsewhere =
      error instanceof GitFailure &&
      (wordOn(error.stdout, branch)?.startsWith('!') || /support --atomic/.test(error.stderr))
    if (isElsewhere) return undefined
    throw (error instanceof GitFailure && refusal(error, call.branch)) || atRemote(error, call.target)
  }
}

async function push(call: PushCall, more: readonly string[], ...refspecs: string[]): Promise<PushResult> {
  const { git, store, target, commit, branch, expected, signal } = call
  const ref = `refs/heads/${branch}`
  const leased = ['push', '--porcelain', '--no-verify', ...more, `--force-with-lease=${ref}:${expected}`]
  const { text } = await git([...leased, '--', target.address, `${commit}:${ref}`, ...refspecs], {
    ...target.call,
    gitDir: store,
    signal,
    timeoutMs: PUSH_MS,
  })
  return { outcome: wordOn(text, branch)?.startsWith('=') ? 'up_to_date' : 'pushed' }
}
