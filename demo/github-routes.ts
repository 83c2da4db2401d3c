import type { IncomingMessage } from 'node:http'
import type { components } from '@octokit/openapi-types'
import {
  apiUrlOf,
  presentComment,
  presentFullPull,
  presentFullRepository,
  presentLabel,
  presentPull,
  presentStatus,
  type Told,
} from './github-answers.ts'

type Schemas = components['schemas']

export interface PullRequestRecord {
  number: number
  title: string
  body: string
  head: string
  base: string
  draft: boolean
  state: 'open' | 'closed'
  labels: string[]
  reviewers: string[]
  /** Where a person would look at it. */
  url: string
}

export interface HostedRepository {
  owner: string
  name: string
  folder: string
  token: string
  private: boolean
  defaultBranch: string
  pulls: PullRequestRecord[]
  comments: { number: number; body: string }[]
  statuses: { sha: string; state: string; context: string; description: string; target_url: string | null }[]
}

export interface GitHubRequest {
  request: IncomingMessage
  url: URL
  /** What follows `/repos/:owner/:name`. */
  rest: string
  repository: HostedRepository | undefined
  /** Whether the request carries the repository's token. */
  allowed: boolean
  host: string
  headOf: (folder: string, branch: string) => Promise<string | undefined>
}

export interface Answer {
  status: number
  body: unknown
}

type Body = Record<string, unknown>

/** What a route sees: its own part of the path, the body and the repository. */
interface Call extends GitHubRequest {
  repository: HostedRepository
  body: Body
  /** The pieces that the route's pattern caught. */
  caught: string[]
}

const DOCS = 'https://docs.github.com/rest'
const refuse = <Status extends number>(status: Status, message: string) => ({
  status,
  body: { message, documentation_url: DOCS, status: String(status) } satisfies Schemas['basic-error'],
})
const missing = refuse(404, 'Not Found')
const text = (value: unknown): string => (typeof value === 'string' ? value : '')
const texts = (value: unknown): string[] => (Array.isArray(value) ? value.map(text) : [])

async function readBody(request: IncomingMessage): Promise<Body> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(Buffer.from(chunk))
  const parsed: unknown = JSON.parse(Buffer.concat(chunks).toString() || '{}')
  return typeof parsed === 'object' && parsed !== null ? { ...parsed } : {}
}

const invalidPull = (error: { code: string; field?: string; message?: string }) => ({
  status: 422 as const,
  body: {
    message: 'Validation Failed',
    documentation_url: DOCS,
    errors: [{ resource: 'PullRequest', ...error }],
  } satisfies Schemas['validation-error'],
})

const PULLS = '/repos/{owner}/{repo}/pulls'

async function createPull(call: Call): Promise<Told<typeof PULLS, 'post'>> {
  const { repository, body, host, headOf } = call
  const head = text(body.head).replace(`${repository.owner}:`, '')
  const base = text(body.base)
  const tip = await headOf(repository.folder, head)
  const ground = await headOf(repository.folder, base)
  if (tip === undefined) return invalidPull({ field: 'head', code: 'invalid' })
  if (ground === undefined) return invalidPull({ field: 'base', code: 'invalid' })
  if (tip === ground)
    return invalidPull({ code: 'custom', message: `No commits between ${base} and ${head}` })
  if (repository.pulls.some((pull) => pull.state === 'open' && pull.head === head && pull.base === base)) {
    const message = `A pull request already exists for ${repository.owner}:${head}.`
    return invalidPull({ code: 'custom', message })
  }
  const number = repository.pulls.length + 1
  const pull: PullRequestRecord = {
    number,
    title: text(body.title),
    body: text(body.body),
    head,
    base,
    draft: body.draft === true,
    state: 'open',
    labels: [],
    reviewers: [],
    url: `${host}/${repository.owner}/${repository.name}/pull/${number}`,
  }
  repository.pulls.push(pull)
  return { status: 201, body: await presentFullPull(call, pull) }
}

async function listPulls(call: Call): Promise<Told<typeof PULLS, 'get'>> {
  const wanted = call.url.searchParams
  const state = wanted.get('state') ?? 'open'
  const head = wanted.get('head')
  const found = call.repository.pulls.filter(
    (pull) =>
      (state === 'all' || pull.state === state) &&
      (head === null || `${call.repository.owner}:${pull.head}` === head) &&
      (wanted.get('base') ?? pull.base) === pull.base,
  )
  return { status: 200, body: await Promise.all(found.map((pull) => presentPull(call, pull))) }
}

function withPull(act: (call: Call, pull: PullRequestRecord) => Answer | Promise<Answer>) {
  return (call: Call): Answer | Promise<Answer> => {
    const pull = call.repository.pulls.find(({ number }) => number === Number(call.caught[0]))
    return pull === undefined ? missing : act(call, pull)
  }
}

async function getReference(call: Call): Promise<Told<'/repos/{owner}/{repo}/git/ref/{ref}', 'get'>> {
  const branch = call.caught[0] ?? ''
  const sha = await call.headOf(call.repository.folder, branch)
  if (sha === undefined) return missing
  return {
    status: 200,
    body: {
      ref: `refs/heads/${branch}`,
      node_id: 'REF_1',
      url: `${apiUrlOf(call)}/git/refs/heads/${branch}`,
      object: { type: 'commit', sha, url: `${apiUrlOf(call)}/git/commits/${sha}` },
    },
  }
}

function setStatus(call: Call): Told<'/repos/{owner}/{repo}/statuses/{sha}', 'post'> {
  const { body } = call
  const status = {
    sha: call.caught[0] ?? '',
    state: text(body.state),
    context: text(body.context),
    description: text(body.description),
    target_url: text(body.target_url) || null,
  }
  call.repository.statuses.push(status)
  return { status: 201, body: presentStatus(call, status) }
}

const getRepository = (call: Call): Told<'/repos/{owner}/{repo}', 'get'> => ({
  status: 200,
  body: presentFullRepository(call),
})

const getPull = async (
  call: Call,
  pull: PullRequestRecord,
): Promise<Told<'/repos/{owner}/{repo}/pulls/{pull_number}', 'get'>> => ({
  status: 200,
  body: await presentFullPull(call, pull),
})

async function requestReviewers(
  call: Call,
  pull: PullRequestRecord,
): Promise<Told<'/repos/{owner}/{repo}/pulls/{pull_number}/requested_reviewers', 'post'>> {
  pull.reviewers = [...new Set([...pull.reviewers, ...texts(call.body.reviewers)])]
  return { status: 201, body: await presentPull(call, pull) }
}

function addLabels(
  call: Call,
  pull: PullRequestRecord,
): Told<'/repos/{owner}/{repo}/issues/{issue_number}/labels', 'post'> {
  pull.labels = [...new Set([...pull.labels, ...texts(call.body.labels)])]
  return { status: 200, body: pull.labels.map((name) => presentLabel(name, call)) }
}

function addComment(
  call: Call,
  pull: PullRequestRecord,
): Told<'/repos/{owner}/{repo}/issues/{issue_number}/comments', 'post'> {
  const { comments } = call.repository
  const body = text(call.body.body)
  comments.push({ number: pull.number, body })
  return { status: 201, body: presentComment(call, body, comments.length) }
}

type Route = [method: string, path: RegExp, act: (call: Call) => Answer | Promise<Answer>]

const ROUTES: readonly Route[] = [
  ['GET', /^$/, getRepository],
  ['GET', /^\/git\/ref\/heads\/(.+)$/, getReference],
  ['GET', /^\/pulls$/, listPulls],
  ['POST', /^\/pulls$/, createPull],
  ['GET', /^\/pulls\/(\d+)$/, withPull(getPull)],
  ['POST', /^\/pulls\/(\d+)\/requested_reviewers$/, withPull(requestReviewers)],
  ['POST', /^\/issues\/(\d+)\/labels$/, withPull(addLabels)],
  ['POST', /^\/issues\/(\d+)\/comments$/, withPull(addComment)],
  ['POST', /^\/statuses\/([0-9a-f]{40})$/, setStatus],
]

/** One request of the API, answered in GitHub's shapes. */
export async function answerGitHub(asked: GitHubRequest): Promise<Answer> {
  const { request, repository, allowed, rest } = asked
  const body = await readBody(request).catch(() => undefined)
  if (body === undefined) return refuse(400, 'Problems parsing JSON')
  if (request.headers.authorization !== undefined && repository !== undefined && !allowed)
    return refuse(401, 'Bad credentials')
  // Without a token a private repository, and any write, looks like nothing at all.
  if (repository === undefined || (!allowed && (repository.private || request.method !== 'GET')))
    return missing
  for (const [method, path, act] of ROUTES) {
    const caught = path.exec(decodeURIComponent(rest))
    if (method === request.method && caught !== null)
      return act({ ...asked, repository, body, caught: caught.slice(1) })
  }
  return missing
}
