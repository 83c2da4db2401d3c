import type { IncomingMessage } from 'node:http'

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
const refuse = (status: number, message: string, more: object = {}): Answer => ({
  status,
  body: { message, ...more, documentation_url: DOCS, status: String(status) },
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

const presentUser = (login: string) => ({ login, id: 1, type: 'User', site_admin: false })

function presentRepository({ repository, host }: Pick<Call, 'repository' | 'host'>) {
  const { owner, name } = repository
  return {
    id: 1,
    name,
    full_name: `${owner}/${name}`,
    owner: presentUser(owner),
    private: repository.private,
    html_url: `${host}/${owner}/${name}`,
    url: `${host}/api/v3/repos/${owner}/${name}`,
    clone_url: `${host}/${owner}/${name}.git`,
    default_branch: repository.defaultBranch,
  }
}

async function presentPull(call: Call, pull: PullRequestRecord) {
  const { repository, headOf, host } = call
  const side = async (branch: string) => ({
    label: `${repository.owner}:${branch}`,
    ref: branch,
    sha: (await headOf(repository.folder, branch)) ?? '',
    user: presentUser(repository.owner),
    repo: presentRepository(call),
  })
  return {
    id: pull.number,
    number: pull.number,
    state: pull.state,
    locked: false,
    title: pull.title,
    body: pull.body,
    draft: pull.draft,
    user: presentUser('agentgate'),
    labels: pull.labels.map((name) => ({ name })),
    requested_reviewers: pull.reviewers.map(presentUser),
    html_url: pull.url,
    url: `${host}/api/v3/repos/${repository.owner}/${repository.name}/pulls/${pull.number}`,
    head: await side(pull.head),
    base: await side(pull.base),
  }
}

const invalidPull = (error: object): Answer =>
  refuse(422, 'Validation Failed', { errors: [{ resource: 'PullRequest', ...error }] })

async function createPull(call: Call): Promise<Answer> {
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
  return { status: 201, body: await presentPull(call, pull) }
}

async function listPulls(call: Call): Promise<Answer> {
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

const pullOf = (call: Call): PullRequestRecord | undefined =>
  call.repository.pulls.find((pull) => pull.number === Number(call.caught[0]))

async function withPull(
  call: Call,
  act: (pull: PullRequestRecord) => Answer | Promise<Answer>,
): Promise<Answer> {
  const pull = pullOf(call)
  return pull === undefined ? missing : act(pull)
}

async function getReference(call: Call): Promise<Answer> {
  const branch = call.caught[0] ?? ''
  const sha = await call.headOf(call.repository.folder, branch)
  if (sha === undefined) return missing
  return {
    status: 200,
    body: { ref: `refs/heads/${branch}`, node_id: '', url: '', object: { type: 'commit', sha, url: '' } },
  }
}

async function getBranch(call: Call): Promise<Answer> {
  const branch = call.caught[0] ?? ''
  const sha = await call.headOf(call.repository.folder, branch)
  if (sha === undefined) return refuse(404, 'Branch not found')
  return { status: 200, body: { name: branch, commit: { sha, url: '' }, protected: false } }
}

function setStatus(call: Call): Answer {
  const { body } = call
  const status = {
    sha: call.caught[0] ?? '',
    state: text(body.state),
    context: text(body.context),
    description: text(body.description),
    target_url: text(body.target_url) || null,
  }
  call.repository.statuses.push(status)
  return { status: 201, body: { id: call.repository.statuses.length, ...status } }
}

type Route = [method: string, path: RegExp, act: (call: Call) => Answer | Promise<Answer>]

const ROUTES: readonly Route[] = [
  ['GET', /^$/, (call) => ({ status: 200, body: presentRepository(call) })],
  ['GET', /^\/git\/ref\/heads\/(.+)$/, getReference],
  ['GET', /^\/branches\/(.+)$/, getBranch],
  ['GET', /^\/pulls$/, listPulls],
  ['POST', /^\/pulls$/, createPull],
  [
    'GET',
    /^\/pulls\/(\d+)$/,
    (call) => withPull(call, async (pull) => ({ status: 200, body: await presentPull(call, pull) })),
  ],
  [
    'POST',
    /^\/pulls\/(\d+)\/requested_reviewers$/,
    (call) =>
      withPull(call, async (pull) => {
        pull.reviewers = [...new Set([...pull.reviewers, ...texts(call.body.reviewers)])]
        return { status: 201, body: await presentPull(call, pull) }
      }),
  ],
  [
    'POST',
    /^\/issues\/(\d+)\/labels$/,
    (call) =>
      withPull(call, (pull) => {
        pull.labels = [...new Set([...pull.labels, ...texts(call.body.labels)])]
        return { status: 200, body: pull.labels.map((name) => ({ name })) }
      }),
  ],
  [
    'POST',
    /^\/issues\/(\d+)\/comments$/,
    (call) =>
      withPull(call, (pull) => {
        call.repository.comments.push({ number: pull.number, body: text(call.body.body) })
        return { status: 201, body: { id: call.repository.comments.length, body: text(call.body.body) } }
      }),
  ],
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
