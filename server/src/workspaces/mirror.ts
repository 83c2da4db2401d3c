import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { BoundedMap } from '../lib/bounded-map.ts'
import { sha256 } from '../lib/hash.ts'
import { newId } from '../lib/id.ts'
import { SourceError } from './failures.ts'
import { withFolderLock } from './folder-lock.ts'
import { type Git, GitFailure } from './git.ts'
import type { Remote } from './remote.ts'
import { remoteFailure } from './remote-failure.ts'

/**
 * Owns: one bare mirror per organisation and repository, the shared object store of that repository's runs.
 * Invariants: objects are only ever added (nothing is pruned or repacked away), so a run that borrows them never
 * loses one; a mirror appears whole, by rename; every answer is the host's, asked for with the caller's own
 * credential, so a mirror never shows more than the host would.
 * Leaves to others: which address may be asked (`remote.ts`); what runs borrow (`store.ts`).
 */

export interface MirrorRequest {
  organisation: string
  remote: Remote
  /** The host's default branch if not given. */
  branch?: string | undefined
  /** Any commit of the repository, at least seven hexadecimal digits; the branch's head if not given. */
  commit?: string | undefined
  signal?: AbortSignal | undefined
}

export interface MirroredCommit {
  /** The bare repository that holds the commit. */
  folder: string
  commit: string
  /** The commit's tree object. */
  tree: string
  branch: string
}

export interface MirrorOptions {
  git: Git
  root: string
  diskLimitBytes: number
}

const ASK_MS = 30_000
const FETCH_MS = 15 * 60_000
const MEASURE_MS = 500
const FETCH = ['fetch', '--prune', '--no-tags', '--no-write-fetch-head', '--quiet']
const REFSPECS = ['+refs/heads/*:refs/heads/*', '+refs/tags/*:refs/tags/*']

/** Places whose last answer is remembered. */
const PLACES_KEPT = 1_000

const placeOf = (folder: string, { branch = '' }: MirrorRequest): string => `${folder} ${branch}`

type FoundCommit = Pick<MirroredCommit, 'commit' | 'tree'>

interface Head {
  branch: string
  commit: string
}

/** The branch to work on and its commit, as the host has them now. */
async function askHost(git: Git, { remote, branch, signal }: MirrorRequest): Promise<Head> {
  const { url } = remote
  const patterns = branch === undefined ? ['HEAD'] : [`refs/heads/${branch}`, 'HEAD']
  const answer = await git(['ls-remote', '--symref', '--', url.href, ...patterns], {
    ...remote.call,
    signal,
    timeoutMs: ASK_MS,
  }).catch((error: unknown) => {
    throw remoteFailure(error, url)
  })
  const lines = answer.text.split('\n')
  const symbolic = lines.map((line) => /^ref: refs\/heads\/(.+)\tHEAD$/.exec(line)?.[1]).find(Boolean)
  const wanted = branch === undefined ? 'HEAD' : `refs/heads/${branch}`
  const commit = lines
    .map((line) => line.split('\t'))
    .find(([id, name]) => name === wanted && !id?.startsWith('ref:'))?.[0]
  if (commit !== undefined) return { branch: branch ?? symbolic ?? 'main', commit }
  if (branch === undefined || answer.text === '') await refuseEmpty(git, { remote, signal })
  throw new SourceError(
    'source_invalid',
    `The repository ${url.path} has no branch ${branch ?? 'as its default'}.`,
  )
}

async function refuseEmpty(
  git: Git,
  { remote, signal }: Pick<MirrorRequest, 'remote' | 'signal'>,
): Promise<void> {
  const all = await git(['ls-remote', '--heads', '--', remote.url.href], {
    ...remote.call,
    signal,
    timeoutMs: ASK_MS,
  })
  if (all.text === '')
    throw new SourceError(
      'source_invalid',
      `The repository ${remote.url.path} is empty: push a first commit.`,
    )
}

const exists = (folder: string) => stat(join(folder, 'HEAD')).then(Boolean, () => false)

/** Locks that a killed git left behind would stop every later fetch; under our lock they belong to nobody. */
async function removeGitLocks(folder: string): Promise<void> {
  const left = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith('.lock'))
  await Promise.all(left.map((name) => rm(join(folder, name), { force: true })))
}

/** What git says when the copy on this disk, rather than the host, is at fault. */
const BROKEN_COPY =
  /corrupt|bad object|missing|not a git repository|invalid|inflate|unable to (read|create|parse)|packfile|did not send all/i

/** Bytes of the packs and of those being written. */
async function packBytes(folder: string): Promise<number> {
  const packs = join(folder, 'objects', 'pack')
  const names = await readdir(packs).catch(() => [])
  const sizes = await Promise.all(names.map((name) => stat(join(packs, name)).catch(() => undefined)))
  return sizes.reduce((sum, size) => sum + (size?.size ?? 0), 0)
}

export class Mirrors {
  readonly #git: Git
  readonly #root: string
  readonly #diskLimitBytes: number
  /** What was answered last; nothing that is in a mirror is ever taken out. */
  readonly #last = new BoundedMap<string, MirroredCommit>(PLACES_KEPT)

  constructor({ git, root, diskLimitBytes }: MirrorOptions) {
    this.#git = git
    this.#root = root
    this.#diskLimitBytes = diskLimitBytes
  }

  /** Asks the host and makes sure that the mirror holds the commit. Throws `SourceError`. */
  async fetch(request: MirrorRequest): Promise<MirroredCommit> {
    const { commit } = request
    if (commit !== undefined && !/^[0-9a-f]{7,64}$/.test(commit))
      throw new SourceError('source_invalid', 'A commit is named by 7 to 64 hexadecimal digits.')
    const head = await askHost(this.#git, request)
    const { branch } = head
    const warm = this.#folderOf(request)
    const last = this.#last.get(placeOf(warm, request))
    if (commit === undefined && last?.branch === branch && last.commit === head.commit) return last
    const newest = await this.#findCommit(warm, head.commit)
    const found = commit === undefined || !newest ? newest : await this.#findCommit(warm, commit)
    if (newest !== undefined) this.#last.set(placeOf(warm, request), { folder: warm, branch, ...newest })
    if (found !== undefined) return { folder: warm, branch, ...found }
    return this.#locked(request, async (folder) => ({
      folder,
      branch,
      ...(await this.#fetchCommit(folder, request, head)),
    }))
  }

  /** What `fetch` is likely to answer: what it did the last time. */
  expect(request: MirrorRequest): MirroredCommit | undefined {
    return request.commit === undefined
      ? this.#last.get(placeOf(this.#folderOf(request), request))
      : undefined
  }

  /** Reads the whole repository again, for a mirror that turned out to be broken. */
  repair(request: MirrorRequest): Promise<void> {
    return this.#locked(request, (folder) => this.#cloneAnew(folder, request))
  }

  #folderOf({ organisation, remote }: MirrorRequest): string {
    return join(this.#root, `${sha256(`${organisation}\n${remote.url.href}`).slice(0, 40)}.git`)
  }

  async #locked<T>(request: MirrorRequest, act: (folder: string) => Promise<T>): Promise<T> {
    const folder = this.#folderOf(request)
    await mkdir(this.#root, { recursive: true })
    try {
      return await withFolderLock(`${folder}.lock`, request.signal, async () => {
        if (await exists(folder)) await removeGitLocks(folder)
        return act(folder)
      })
    } catch (error) {
      throw remoteFailure(error, request.remote.url)
    }
  }

  /** A commit that the mirror holds, by its full name. */
  async #findCommit(folder: string, wanted: string): Promise<FoundCommit | undefined> {
    const show = ['log', '-1', '--format=%H %T', '--end-of-options', `${wanted}^{commit}`, '--']
    const shown = await this.#git(show, { gitDir: folder }).catch(() => undefined)
    const [commit, tree] = shown?.text.split(' ') ?? []
    return commit && tree ? { commit, tree } : undefined
  }

  async #fetchCommit(folder: string, request: MirrorRequest, head: Head): Promise<FoundCommit> {
    const wanted = request.commit ?? head.commit
    if ((await this.#findCommit(folder, head.commit)) === undefined) await this.#update(folder, request)
    // A commit that no branch reaches any more: some hosts still give it when asked by its full name.
    if ((await this.#findCommit(folder, wanted)) === undefined && wanted.length >= 40)
      await this.#fetchInto(folder, request, [wanted]).catch(() => undefined)
    const found = await this.#findCommit(folder, wanted)
    if (found !== undefined) return found
    throw new SourceError(
      'source_invalid',
      `The repository ${request.remote.url.path} has no commit ${wanted}: push it or name another.`,
    )
  }

  async #update(folder: string, request: MirrorRequest): Promise<void> {
    if (!(await exists(folder))) return this.#cloneAnew(folder, request)
    try {
      await this.#fetchInto(folder, request, REFSPECS)
    } catch (error) {
      if (!(error instanceof GitFailure) || !BROKEN_COPY.test(error.stderr)) throw error
      await this.#cloneAnew(folder, request)
    }
  }

  /** A new mirror in place of whatever is there. Runs that borrow from the old one find the same objects. */
  async #cloneAnew(folder: string, request: MirrorRequest): Promise<void> {
    const fresh = `${folder}.${newId('new', Date.now())}`
    const old = `${folder}.${newId('old', Date.now())}`
    try {
      await mkdir(fresh, { recursive: true })
      await this.#git(['init', '--quiet', '--bare', '--template=', '--shared=0644', '--', fresh])
      await this.#fetchInto(fresh, request, REFSPECS)
      if (await exists(folder)) await rename(folder, old)
      else await rm(folder, { recursive: true, force: true })
      await rename(fresh, folder)
    } finally {
      await rm(old, { recursive: true, force: true })
      await rm(fresh, { recursive: true, force: true })
    }
  }

  /** Fetches under a watch that ends git when the mirror outgrows its limit. */
  async #fetchInto(folder: string, request: MirrorRequest, refspecs: readonly string[]): Promise<void> {
    const { remote, signal } = request
    const limit = this.#diskLimitBytes
    const tooLarge = new SourceError(
      'disk_limit',
      `The repository ${remote.url.path} is larger than the ${Math.round(limit / 1e6)} MB allowed here.`,
    )
    const stop = new AbortController()
    const watch = setInterval(() => {
      void packBytes(folder).then((bytes) => bytes > limit && stop.abort(tooLarge))
    }, MEASURE_MS)
    try {
      await this.#git([...FETCH, '--', remote.url.href, ...refspecs], {
        ...remote.call,
        gitDir: folder,
        config: [...(remote.call.config ?? []), 'fetch.unpackLimit=1'],
        signal: signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]),
        timeoutMs: FETCH_MS,
      })
      if ((await packBytes(folder)) > limit) throw tooLarge
    } finally {
      clearInterval(watch)
    }
  }
}
