import { execFile, spawn } from 'node:child_process'
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { type Answer, answerGitHub, type HostedRepository, type PullRequestRecord } from './github-routes.ts'

/** A file's content, or where a symbolic link points. */
export type HostedFile = string | Uint8Array | { link: string } | { script: string }

export interface NewRepository {
  owner: string
  name: string
  /** None makes a repository without a commit. */
  files?: Readonly<Record<string, HostedFile>>
  defaultBranch?: string
  /** A private one wants its token for reading too; pushing always does. */
  private?: boolean
}

export interface RepositoryAccess {
  /** What a work order names as its repository. */
  url: string
  apiBaseUrl: string
  /** The password of Basic auth for git, the bearer token of the API. */
  token: string
}

/** Makes matching requests fail, a number of times; the first fault that matches is used. */
export interface HostFault {
  method?: string
  /** A part of the request's path. */
  path: string
  /** How many requests it spoils; all of them if not given. */
  times?: number
  /** Instead of the real answer. Without a status the request is only delayed. */
  status?: number
  headers?: Readonly<Record<string, string>>
  delayMs?: number
  /** The request takes effect, and only its answer is lost. */
  afterEffect?: boolean
}

export interface HostRequest {
  method: string
  path: string
}

export interface GitHost {
  /** `http://127.0.0.1:PORT` */
  readonly url: string
  readonly requests: HostRequest[]
  createRepository(repository: NewRepository): Promise<RepositoryAccess>
  /** Another commit on a branch, which is made if missing; `null` deletes a file. */
  commit(
    repository: string,
    branch: string,
    files: Readonly<Record<string, HostedFile | null>>,
  ): Promise<string>
  /** Points a branch at a commit, or deletes it. */
  moveBranch(repository: string, branch: string, commit: string | undefined): Promise<void>
  /** The `owner/name` repository as it stands: pull requests, comments, statuses. */
  repository(repository: string): HostedRepository
  pulls(owner: string, name: string): PullRequestRecord[]
  head(owner: string, name: string, branch: string): Promise<string | undefined>
  readFile(owner: string, name: string, branch: string, path: string): Promise<string | undefined>
  fail(fault: HostFault): void
  /** From now on the repository's token is refused. */
  revoke(repository: string): void
  close(): Promise<void>
}

const run = promisify(execFile)

/** Git under no configuration but this, whoever starts the host. */
const GIT_ENVIRONMENT = {
  PATH: '/usr/local/bin:/usr/bin:/bin',
  HOME: '/nonexistent',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_AUTHOR_NAME: 'Example Author',
  GIT_AUTHOR_EMAIL: 'author@example.com',
  GIT_COMMITTER_NAME: 'Example Author',
  GIT_COMMITTER_EMAIL: 'author@example.com',
}

async function git(folder: string, args: readonly string[], environment = {}): Promise<string> {
  const { stdout } = await run('git', ['-c', 'safe.directory=*', '--git-dir', folder, ...args], {
    env: { ...GIT_ENVIRONMENT, ...environment },
    maxBuffer: 64 * 1024 * 1024,
  })
  return stdout
}

/** An answer of one line. */
const gitLine = async (folder: string, args: readonly string[], environment = {}): Promise<string> =>
  (await git(folder, args, environment)).trim()

/** The commit a branch points at. */
const headOf = (folder: string, branch: string): Promise<string | undefined> =>
  gitLine(folder, ['rev-parse', '--verify', '--quiet', `refs/heads/${branch}`]).catch(() => undefined)

async function writeTree(folder: string, files: Readonly<Record<string, HostedFile | null>>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    const at = join(folder, path)
    await rm(at, { recursive: true, force: true })
    if (content === null) continue
    await mkdir(dirname(at), { recursive: true })
    if (typeof content === 'object' && 'link' in content) await symlink(content.link, at)
    else if (typeof content === 'object' && 'script' in content) {
      await writeFile(at, content.script)
      await chmod(at, 0o755)
    } else await writeFile(at, content)
  }
}

async function commitFiles(
  folder: string,
  branch: string,
  files: Readonly<Record<string, HostedFile | null>>,
): Promise<string> {
  const scratch = await mkdtemp(join(tmpdir(), 'git-host-tree-'))
  try {
    const tree = join(scratch, 'tree')
    await mkdir(tree)
    const parent = await headOf(folder, branch)
    const place = { GIT_WORK_TREE: tree, GIT_INDEX_FILE: join(scratch, 'index') }
    if (parent !== undefined) await git(folder, ['read-tree', '--reset', '-u', parent], place)
    await writeTree(tree, files)
    await git(folder, ['add', '--all', '--force', '--', tree], place)
    const made = await gitLine(folder, ['write-tree'], place)
    const parents = parent === undefined ? [] : ['-p', parent]
    const commit = await gitLine(folder, ['commit-tree', made, ...parents, '-m', `Change ${branch}`])
    await git(folder, ['update-ref', `refs/heads/${branch}`, commit])
    return commit
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

function isRightToken(given: string, token: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(token)]
  return a.length === b.length && timingSafeEqual(a, b)
}

/** Whether a request carries the repository's token: as Basic password (git) or as bearer (API). */
function isAuthorised(request: IncomingMessage, repository: HostedRepository): boolean {
  const [scheme, value] = (request.headers.authorization ?? '').split(' ')
  if (value === undefined || repository.token === '') return false
  if (scheme === 'Basic') {
    const password = Buffer.from(value, 'base64').toString().split(':').slice(1).join(':')
    return isRightToken(password, repository.token)
  }
  return (scheme === 'token' || scheme === 'Bearer') && isRightToken(value, repository.token)
}

/** One request of the smart HTTP protocol, answered by git's own CGI program. */
function answerGit(
  request: IncomingMessage,
  response: ServerResponse,
  root: string,
  url: URL,
): Promise<void> {
  return new Promise((resolve) => {
    const header = (name: string) => String(request.headers[name] ?? '')
    const backend = spawn('git', ['-c', 'safe.directory=*', 'http-backend'], {
      env: {
        ...GIT_ENVIRONMENT,
        GIT_PROJECT_ROOT: root,
        GIT_HTTP_EXPORT_ALL: '1',
        PATH_INFO: decodeURIComponent(url.pathname),
        QUERY_STRING: url.search.slice(1),
        REQUEST_METHOD: request.method ?? 'GET',
        CONTENT_TYPE: header('content-type'),
        HTTP_CONTENT_ENCODING: header('content-encoding'),
        ...(header('content-length') === '' ? {} : { CONTENT_LENGTH: header('content-length') }),
        GIT_PROTOCOL: header('git-protocol'),
        REMOTE_USER: 'token',
        REMOTE_ADDR: '127.0.0.1',
      },
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    request.pipe(backend.stdin)
    backend.stdin.on('error', () => request.resume()) // the backend may answer before it has read everything
    response.on('close', () => backend.kill())
    let head = Buffer.alloc(0)
    backend.stdout.on('data', (chunk: Buffer) => {
      if (response.headersSent) return void response.write(chunk)
      head = Buffer.concat([head, chunk])
      const end = head.indexOf('\r\n\r\n')
      if (end < 0) return
      for (const line of head.subarray(0, end).toString().split('\r\n')) {
        const [name = '', ...value] = line.split(': ')
        if (name === 'Status') response.statusCode = Number.parseInt(value.join(': '), 10)
        else response.setHeader(name, value.join(': '))
      }
      response.flushHeaders()
      response.write(head.subarray(end + 4))
    })
    backend.on('error', () => response.writeHead(500))
    backend.on('close', () => {
      if (!response.headersSent) response.writeHead(500)
      response.end(resolve)
      if (response.destroyed) resolve()
    })
  })
}

/** The repository a request is about: `/api/v3/repos/owner/name…` for the API, `/owner/name(.git)/…` for git. */
const API = /^\/api\/v3\/repos\/([^/]+)\/([^/]+)(\/.*)?$/
const GIT = /^\/([^/]+)\/([^/]+?)(?:\.git)?\/(info\/refs|git-upload-pack|git-receive-pack)$/

class LoopbackGitHost implements GitHost {
  readonly requests: HostRequest[] = []
  readonly #root: string
  readonly #repositories = new Map<string, HostedRepository>()
  readonly #faults: (HostFault & { left: number })[] = []
  readonly #ending = new AbortController()
  readonly #server = createServer((request, response) => {
    this.#answer(request, response).catch(() => response.destroy())
  })

  constructor(root: string) {
    this.#root = root
  }

  async listen(port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(port, '127.0.0.1', resolve)
    })
  }

  get url(): string {
    const { port } = this.#server.address() as AddressInfo // it listens on TCP: never a pipe's name
    return `http://127.0.0.1:${port}`
  }

  async createRepository(wanted: NewRepository): Promise<RepositoryAccess> {
    const { owner, name, files, defaultBranch = 'main' } = wanted
    const folder = join(this.#root, owner, `${name}.git`)
    await mkdir(folder, { recursive: true })
    await git(folder, ['init', '--quiet', '--bare', '--template=', `--initial-branch=${defaultBranch}`])
    if (files !== undefined) await commitFiles(folder, defaultBranch, files)
    const token = `host_${randomBytes(20).toString('hex')}`
    this.#repositories.set(`${owner}/${name}`, {
      owner,
      name,
      folder,
      token,
      private: wanted.private ?? false,
      defaultBranch,
      pulls: [],
      comments: [],
      statuses: [],
    })
    return { url: `${this.url}/${owner}/${name}.git`, apiBaseUrl: `${this.url}/api/v3`, token }
  }

  commit(repository: string, branch: string, files: Readonly<Record<string, HostedFile | null>>) {
    return commitFiles(this.repository(repository).folder, branch, files)
  }

  async moveBranch(repository: string, branch: string, commit: string | undefined): Promise<void> {
    const change = commit === undefined ? ['-d', `refs/heads/${branch}`] : [`refs/heads/${branch}`, commit]
    await git(this.repository(repository).folder, ['update-ref', ...change])
  }

  repository(key: string): HostedRepository {
    const found = this.#repositories.get(key)
    if (found === undefined) throw new Error(`no hosted repository ${key}`)
    return found
  }

  pulls(owner: string, name: string): PullRequestRecord[] {
    return this.repository(`${owner}/${name}`).pulls
  }

  head(owner: string, name: string, branch: string): Promise<string | undefined> {
    return headOf(this.repository(`${owner}/${name}`).folder, branch)
  }

  readFile(owner: string, name: string, branch: string, path: string): Promise<string | undefined> {
    const { folder } = this.repository(`${owner}/${name}`)
    return git(folder, ['cat-file', 'blob', `refs/heads/${branch}:${path}`]).catch(() => undefined)
  }

  fail(fault: HostFault): void {
    this.#faults.push({ ...fault, left: fault.times ?? Number.POSITIVE_INFINITY })
  }

  revoke(repository: string): void {
    this.repository(repository).token = ''
  }

  async close(): Promise<void> {
    this.#ending.abort()
    const closed = new Promise((resolve) => this.#server.close(resolve))
    this.#server.closeAllConnections()
    await closed
    await rm(this.#root, { recursive: true, force: true, maxRetries: 3 })
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url)
    const method = request.method ?? 'GET'
    this.requests.push({ method, path: url.pathname + url.search })
    const fault = this.#takeFault(method, url.pathname)
    if (fault?.delayMs !== undefined) await pause(fault.delayMs, undefined, { signal: this.#ending.signal })
    if (fault?.status !== undefined && !fault.afterEffect) {
      request.resume()
      response.writeHead(fault.status, fault.headers).end(`{"message":"scripted ${fault.status}"}`)
    } else if (url.pathname.startsWith('/api/v3/')) {
      const real = await this.#answerApi(request, url)
      const told = fault?.status === undefined ? real : { status: fault.status, body: { message: 'lost' } }
      response.writeHead(told.status, { 'content-type': 'application/json; charset=utf-8' })
      response.end(JSON.stringify(told.body))
    } else {
      await this.#answerGit(request, response, url)
    }
  }

  #takeFault(method: string, path: string): HostFault | undefined {
    const fault = this.#faults.find(
      (one) => one.left > 0 && (one.method ?? method) === method && path.includes(one.path),
    )
    if (fault !== undefined) fault.left--
    return fault
  }

  #answerApi(request: IncomingMessage, url: URL): Promise<Answer> {
    const [, owner, name, rest = ''] = API.exec(url.pathname) ?? []
    const repository = this.#repositories.get(`${owner}/${name}`)
    const allowed = repository !== undefined && isAuthorised(request, repository)
    return answerGitHub({ request, url, rest, repository, allowed, host: this.url, headOf })
  }

  async #answerGit(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    const [, owner, name, rest] = GIT.exec(url.pathname) ?? []
    const repository = this.#repositories.get(`${owner}/${name}`)
    const isAnonymous = request.headers.authorization === undefined
    const isPush = `${url.search}${url.pathname}`.includes('git-receive-pack')
    const isOpen = repository !== undefined && !repository.private && !isPush && isAnonymous
    if (isOpen || (repository !== undefined && isAuthorised(request, repository))) {
      url.pathname = `/${owner}/${name}.git/${rest}`
      return answerGit(request, response, this.#root, url)
    }
    request.resume()
    if (repository !== undefined || isAnonymous)
      response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end('authentication required\n')
    else response.writeHead(404).end('Repository not found.\n')
  }
}

/**
 * A small git host on 127.0.0.1: real smart HTTP by `git http-backend` with a token per repository, and the part
 * of the GitHub REST API (under `/api/v3`) that opens a pull request. For the demo and the tests.
 */
export async function startGitHost(options: { port?: number } = {}): Promise<GitHost> {
  const host = new LoopbackGitHost(await mkdtemp(join(tmpdir(), 'git-host-')))
  await host.listen(options.port ?? 0)
  return host
}
