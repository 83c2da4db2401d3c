import type { components, paths } from '@octokit/openapi-types'
import type { HostedRepository, PullRequestRecord } from './github-routes.ts'

/**
 * What GitHub's published description of its API says about one operation: `Asked` is the body of a request, `Told`
 * an answer with its status. Nothing else is compiled, so a field that is missing, misspelt or of another type is found.
 */
export type Asked<Path extends keyof paths, Method extends keyof paths[Path]> = paths[Path][Method] extends {
  requestBody?: { content: { 'application/json': infer Body } }
}
  ? Body
  : never

export type Told<Path extends keyof paths, Method extends keyof paths[Path]> = paths[Path][Method] extends {
  responses: infer Answers
}
  ? { [Status in keyof Answers]: { status: Status; body: Json<Answers[Status]> } }[keyof Answers]
  : never

type Json<Answer> = Answer extends { content: { 'application/json': infer Body } } ? Body : never

type Schemas = components['schemas']
type User = Schemas['simple-user']
type Repository = Schemas['repository']
type FullRepository = Schemas['full-repository']
type Pull = Schemas['pull-request-simple']
type FullPull = Schemas['pull-request']

/** Where an answer is given from. */
export interface Place {
  repository: HostedRepository
  host: string
  headOf: (folder: string, branch: string) => Promise<string | undefined>
}

/** Addresses that nobody follows, named as GitHub names them. */
const links = <Name extends string>(base: string, names: readonly Name[]): Record<Name, string> =>
  Object.fromEntries(names.map((name) => [name, `${base}/${name.replace(/_url$/, '')}`])) as Record<
    Name,
    string
  > // by construction

const USER_LINKS = [
  'events_url',
  'followers_url',
  'following_url',
  'gists_url',
  'organizations_url',
  'received_events_url',
  'repos_url',
  'starred_url',
  'subscriptions_url',
] as const satisfies readonly (keyof User)[]

const REPOSITORY_LINKS = [
  'archive_url',
  'assignees_url',
  'blobs_url',
  'branches_url',
  'collaborators_url',
  'comments_url',
  'commits_url',
  'compare_url',
  'contents_url',
  'contributors_url',
  'deployments_url',
  'downloads_url',
  'events_url',
  'forks_url',
  'git_commits_url',
  'git_refs_url',
  'git_tags_url',
  'hooks_url',
  'issue_comment_url',
  'issue_events_url',
  'issues_url',
  'keys_url',
  'labels_url',
  'languages_url',
  'merges_url',
  'milestones_url',
  'notifications_url',
  'pulls_url',
  'releases_url',
  'stargazers_url',
  'statuses_url',
  'subscribers_url',
  'subscription_url',
  'tags_url',
  'teams_url',
  'trees_url',
] as const satisfies readonly (keyof Repository)[]

const PULL_LINKS = [
  'comments_url',
  'commits_url',
  'issue_url',
  'review_comment_url',
  'review_comments_url',
  'statuses_url',
] as const satisfies readonly (keyof Pull)[]

/** One moment for everything: nothing here grows old. */
const AT = '2026-01-01T00:00:00Z'

export const apiUrlOf = ({ repository, host }: Pick<Place, 'repository' | 'host'>): string =>
  `${host}/api/v3/repos/${repository.owner}/${repository.name}`

export function presentUser(login: string, host: string): User {
  const url = `${host}/api/v3/users/${login}`
  return {
    login,
    id: 1,
    node_id: 'U_1',
    avatar_url: `${host}/${login}.png`,
    gravatar_id: null,
    type: 'User',
    site_admin: false,
    url,
    html_url: `${host}/${login}`,
    ...links(url, USER_LINKS),
  }
}

/** What GitHub adds where one repository was asked for. */
export const presentFullRepository = (place: Pick<Place, 'repository' | 'host'>) =>
  ({ ...presentRepository(place), network_count: 0, subscribers_count: 0 }) satisfies FullRepository

function presentRepository({ repository, host }: Pick<Place, 'repository' | 'host'>) {
  const { owner, name, defaultBranch, pulls } = repository
  const url = apiUrlOf({ repository, host })
  const html = `${host}/${owner}/${name}`
  const open = pulls.filter(({ state }) => state === 'open').length
  const presented = {
    id: 1,
    node_id: 'R_1',
    name,
    full_name: `${owner}/${name}`,
    owner: presentUser(owner, host),
    private: repository.private,
    description: null,
    fork: false,
    url,
    html_url: html,
    ...links(url, REPOSITORY_LINKS),
    clone_url: `${html}.git`,
    git_url: `${html}.git`,
    ssh_url: `${html}.git`,
    svn_url: html,
    mirror_url: null,
    homepage: null,
    language: null,
    license: null,
    default_branch: defaultBranch,
    size: 1,
    forks: 0,
    forks_count: 0,
    open_issues: open,
    open_issues_count: open,
    stargazers_count: 0,
    watchers: 0,
    watchers_count: 0,
    archived: false,
    disabled: false,
    has_discussions: false,
    has_downloads: false,
    has_issues: true,
    has_pages: false,
    has_projects: false,
    has_wiki: false,
    created_at: AT,
    pushed_at: AT,
    updated_at: AT,
  }
  return presented satisfies Repository
}

export function presentLabel(name: string, place: Pick<Place, 'repository' | 'host'>) {
  const url = `${apiUrlOf(place)}/labels/${encodeURIComponent(name)}`
  const label = { id: 1, node_id: 'LA_1', url, name, description: '', color: 'ededed', default: false }
  return label satisfies Schemas['label']
}

export async function presentPull(place: Place, pull: PullRequestRecord) {
  const { repository, host, headOf } = place
  const url = `${apiUrlOf(place)}/pulls/${pull.number}`
  const urls = links(url, PULL_LINKS)
  const side = async (branch: string) => ({
    label: `${repository.owner}:${branch}`,
    ref: branch,
    sha: (await headOf(repository.folder, branch)) ?? '',
    user: presentUser(repository.owner, host),
    repo: presentRepository(place),
  })
  const presented = {
    id: pull.number,
    node_id: `PR_${pull.number}`,
    number: pull.number,
    state: pull.state,
    locked: false,
    title: pull.title,
    body: pull.body,
    draft: pull.draft,
    user: presentUser('agentgate', host),
    labels: pull.labels.map((name) => presentLabel(name, place)),
    milestone: null,
    assignee: null,
    requested_reviewers: pull.reviewers.map((login) => presentUser(login, host)),
    author_association: 'CONTRIBUTOR' as const,
    auto_merge: null,
    url,
    html_url: pull.url,
    diff_url: `${pull.url}.diff`,
    patch_url: `${pull.url}.patch`,
    ...urls,
    _links: {
      self: { href: url },
      html: { href: pull.url },
      issue: { href: urls.issue_url },
      comments: { href: urls.comments_url },
      commits: { href: urls.commits_url },
      statuses: { href: urls.statuses_url },
      review_comment: { href: urls.review_comment_url },
      review_comments: { href: urls.review_comments_url },
    },
    head: await side(pull.head),
    base: await side(pull.base),
    merged_at: null,
    merge_commit_sha: null,
    closed_at: pull.state === 'closed' ? AT : null,
    created_at: AT,
    updated_at: AT,
  }
  return presented satisfies Pull
}

/** What GitHub adds where one pull request was asked for or made. */
export const presentFullPull = async (place: Place, pull: PullRequestRecord) =>
  ({
    ...(await presentPull(place, pull)),
    merged: false,
    merged_by: null,
    mergeable: null,
    mergeable_state: 'unknown',
    maintainer_can_modify: false,
    commits: 1,
    additions: 1,
    deletions: 0,
    changed_files: 1,
    comments: 0,
    review_comments: 0,
  }) satisfies FullPull

export function presentComment(place: Pick<Place, 'repository' | 'host'>, body: string, number: number) {
  const url = `${apiUrlOf(place)}/issues/comments/${number}`
  const comment = {
    id: number,
    node_id: `IC_${number}`,
    url,
    html_url: url,
    issue_url: `${apiUrlOf(place)}/issues/1`,
    user: presentUser('agentgate', place.host),
    author_association: 'CONTRIBUTOR' as const,
    body,
    created_at: AT,
    updated_at: AT,
  }
  return comment satisfies Schemas['issue-comment']
}

export function presentStatus(
  place: Pick<Place, 'repository' | 'host'>,
  status: HostedRepository['statuses'][number],
) {
  const { sha, state, context, description, target_url } = status
  const told = {
    id: place.repository.statuses.indexOf(status) + 1,
    node_id: 'SC_1',
    url: `${apiUrlOf(place)}/statuses/${sha}`,
    avatar_url: null,
    state,
    context,
    description,
    target_url,
    creator: presentUser('agentgate', place.host),
    created_at: AT,
    updated_at: AT,
  }
  return told satisfies Schemas['status']
}
