import { SourceError } from './failures.ts'
import { GitFailure } from './git.ts'
import type { RepositoryUrl } from './remote.ts'

type Meaning = (url: RepositoryUrl) => SourceError

const unavailable =
  (what: string): Meaning =>
  (url) =>
    new SourceError('source_unavailable', `The host ${url.host} ${what}: try again later.`)

const unauthorised: Meaning = (url) =>
  new SourceError(
    'source_auth_failed',
    `The host ${url.host} refused access to ${url.path}: store a credential that may read it under /v1/git-credentials.`,
  )

/** What git prints for each kind of trouble with a remote, most telling first. */
const MEANINGS: readonly [pattern: RegExp, meaning: Meaning][] = [
  [/could not read (Username|Password)|Authentication failed|error: 40[137]/, unauthorised],
  [
    /repository '.*' not found|returned error: (404|410)|not valid: is this a git repository/,
    (url) => new SourceError('source_invalid', `There is no repository ${url.path} on ${url.host}.`),
  ],
  [
    /error: 30[12378]|redirect/i,
    (url) =>
      new SourceError(
        'source_invalid',
        `The host ${url.host} redirects ${url.path} elsewhere: give the address that it leads to.`,
      ),
  ],
  [
    /SSL|certificate|gnutls/i,
    (url) =>
      new SourceError('source_unavailable', `The certificate of ${url.host} is not valid.`, {
        retryable: false,
      }),
  ],
  [
    /transport '.*' not allowed/,
    () => new SourceError('source_invalid', 'Repositories are read over https.'),
  ],
  [/error: (408|429|5\d\d)/, unavailable('has trouble of its own')],
  [/Could not resolve host/, unavailable('is not known')],
  [
    /Failed to connect|Connection refused|Connection timed out|Operation too slow/,
    unavailable('does not answer'),
  ],
  [
    /early EOF|unexpected disconnect|RPC failed|hung up|Empty reply|Recv failure|Connection reset|curl \d+/,
    unavailable('ended the transfer early'),
  ],
]

/** The named reason for a git call that spoke to a remote; other errors come back as they are. */
export function remoteFailure(error: unknown, url: RepositoryUrl): unknown {
  if (!(error instanceof GitFailure)) return error
  if (error.kind === 'timeout')
    return new SourceError('source_unavailable', `The host ${url.host} took too long to answer.`, {
      cause: error,
    })
  if (error.kind === 'missing')
    return new SourceError('workspace_failed', 'The git program did not start: install git.', {
      cause: error,
    })
  const meaning = MEANINGS.find(([pattern]) => pattern.test(error.stderr))?.[1]
  const named =
    meaning?.(url) ?? new SourceError('source_unavailable', `Reading ${url.path} from ${url.host} failed.`)
  named.cause = error
  return named
}
