import { chmod, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { BoundedMap } from '../lib/bounded-map.ts'
import { sha256 } from '../lib/hash.ts'
import { replaceFile } from '../lib/replace-file.ts'
import { together } from '../lib/together.ts'
import { type AddressGuard, createAddressGuard, type Resolve } from '../outbound/address-guard.ts'
import {
  deliveryFailure,
  type PushOptions,
  type PushResult,
  type PushTarget,
  pushBranch,
  pushWhile,
  remoteHeads,
} from './delivery.ts'
import { DeliveryError, SourceError } from './failures.ts'
import { createGit, type Git, GitFailure } from './git.ts'
import { createGitDir } from './git-dir.ts'
import { type MirroredCommit, Mirrors } from './mirror.ts'
import { type GitCredential, openRemote, parseRepositoryUrl, type Remote } from './remote.ts'
import { removeTree } from './remove-tree.ts'
import { Store } from './store.ts'
import {
  type KnownCommit,
  LISTED_KEPT,
  listTree,
  readListing,
  type TreeEntry,
  type TreeListing,
} from './tree-listing.ts'
import { CHECKPOINTS, type RunFolder, runFolder, stepOf, Workspace } from './workspace.ts'

export interface CredentialRequest {
  organisation: string
  host: string
  use: 'read' | 'publish'
}

export interface WorkspacesOptions {
  root: string
  /** The git program: a name on the usual path, or a path. */
  gitBinary: string
  /** Address ranges that may be private and may speak plain http, as `createAddressGuard` takes them. */
  allowedPrivateHosts: readonly string[]
  /** For a mirror, and for the changed files of a run. */
  diskLimitBytes: number
  findCredential(request: CredentialRequest): Promise<GitCredential | undefined>
  /** The user that the agent of a run runs as. */
  ownerOf?(runId: string): Owner | undefined
  /** The name server; the system's unless given. */
  resolve?: Resolve
}

export interface Owner {
  uid: number
  gid: number
  /** Gives it a tree. */
  own(path: string): Promise<void>
}

export interface OpenRequest {
  runId: string
  organisation: string
  repository: string
  branch?: string
  commit?: string
  signal?: AbortSignal
}

export interface ReopenRequest {
  runId: string
  organisation: string
  repository: string
  signal?: AbortSignal
}

/** What a run folder says about itself. */
interface About {
  organisation: string
  repository: string
  mirror: string
  baseCommit: string
  baseTree: string
  baseBranch: string
}

const AGENT_CONFIG = `[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tlogallrefupdates = true
[gc]
\tauto = 0
[user]
\tname = AgentGate
\temail = agentgate@localhost
`

const TREE_MS = 10 * 60_000
const BASES_KEPT = 8
/** The list of a million files or so. */
const LIST_BYTES = 128 * 2 ** 20
/** Names that git allows without being asked; it allows many more. */
const PLAIN_BRANCH = /^[A-Za-z0-9_]+([-/][A-Za-z0-9_]+)*$/
/** What a small file takes on a disk. */
const BLOCK_BYTES = 4_096

/** Written by this class only; what a power cut has left of it is nothing. */
function parseAbout(text: string): About | undefined {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/**
 * Owns: the folder `root`: `mirrors/` shared by an organisation's runs, `runs/` with one folder per run,
 * `test-remotes/`.
 * Invariants: nothing of a source is given to anybody before its address was checked and its host has answered, each
 * time anew; a credential lives in the environment of one git process.
 * Leaves to others: that one worker at a time holds a run.
 */
export class Workspaces {
  readonly #options: WorkspacesOptions
  readonly #git: Git
  readonly #mirrors: Mirrors
  readonly #guard: AddressGuard
  /** Base commits of the newest workspaces. */
  readonly #bases = new BoundedMap<string, KnownCommit>(BASES_KEPT)

  constructor(options: WorkspacesOptions) {
    this.#options = options
    this.#git = createGit(options.gitBinary)
    this.#guard = createAddressGuard(options.allowedPrivateHosts, options.resolve)
    const { diskLimitBytes } = options
    this.#mirrors = new Mirrors({ git: this.#git, root: join(options.root, 'mirrors'), diskLimitBytes })
  }

  /**
   * A fresh workspace at the source's commit. Throws `SourceError`; what it leaves then goes with the run.
   *
   * The host nearly always stands where it stood the last time, so the workspace is built while the host is asked, and
   * built again where the answer is another. Before the answer nobody has it: it does not show that a mirror is here.
   */
  async open(request: OpenRequest): Promise<Workspace> {
    const { runId, organisation, repository, branch, commit, signal } = request
    if (branch !== undefined) await this.#checkBranch(branch)
    const remote = await this.#remoteFor(request, 'read')
    const wanted = { organisation, remote, branch, commit, signal }
    const build = (found: MirroredCommit): Promise<Workspace> =>
      this.#build(runId, {
        organisation,
        repository,
        mirror: found.folder,
        baseCommit: found.commit,
        baseTree: found.tree,
        baseBranch: found.branch,
      })
    const expected = this.#mirrors.expect(wanted)
    const early = expected === undefined ? Promise.resolve(undefined) : build(expected).catch(() => undefined)
    const [found, workspace] = await together([this.#mirrors.fetch(wanted), early])
    if (workspace?.baseCommit === found.commit && workspace.baseBranch === found.branch) return workspace
    try {
      return await build(found)
    } catch (error) {
      if (!(error instanceof GitFailure)) throw error
      // The commit was there but not all of its files: the mirror is read anew, once.
      await this.#mirrors.repair(wanted)
    }
    return build(found).catch((error: unknown) => {
      if (!(error instanceof GitFailure)) throw error
      const sentence =
        'The repository could not be checked out: it holds something that cannot be written here.'
      throw new SourceError('workspace_failed', sentence, { cause: error })
    })
  }

  /** What this machine still has of a run, at its newest checkpoint; nothing if it has none. */
  async reopen({ runId, organisation, repository }: ReopenRequest): Promise<Workspace | undefined> {
    const kept = await this.#keptOf(runId)
    if (kept?.about.organisation !== organisation || kept.about.repository !== repository) return undefined
    const folder = runFolder(this.#options.root, runId)
    await rm(join(folder.store, 'index.lock'), { force: true }) // left by a git that was killed
    const workspace = this.#workspace(runId, folder, kept.about)
    return (await workspace.restore()) === undefined ? undefined : workspace
  }

  /** The step of the newest checkpoint that this machine has of a run; only looks. */
  async newestCheckpoint(runId: string): Promise<number | undefined> {
    return (await this.#keptOf(runId))?.step
  }

  /** What is left of a run that can be read: a store that git does not know has no checkpoint. */
  async #keptOf(runId: string): Promise<{ about: About; step: number } | undefined> {
    const folder = runFolder(this.#options.root, runId)
    const about = parseAbout(await readFile(folder.about, 'utf8').catch(() => ''))
    if (about === undefined) return undefined
    const checkpoints = await this.#store(folder)
      .listRefs(CHECKPOINTS)
      .catch((error: unknown) => {
        if (error instanceof GitFailure && error.kind === 'exit') return []
        throw error
      })
    const newest = checkpoints.at(-1)
    return newest && { about, step: stepOf(newest.name) }
  }

  /** A fresh workspace with what `Workspace.bundle` gave elsewhere; `commit` is the run's base commit. */
  async reopenFromBundle(request: OpenRequest & { commit: string; bundle: Uint8Array }): Promise<Workspace> {
    const { bundle, ...source } = request
    const workspace = await this.open(source)
    if (bundle.length === 0) return workspace
    const file = join(runFolder(this.#options.root, request.runId).path, 'resume.bundle')
    await writeFile(file, bundle)
    try {
      await workspace.adopt(file)
    } catch (cause) {
      const sentence = 'The saved state of the run could not be read.'
      throw new SourceError('workspace_failed', sentence, { cause })
    } finally {
      await rm(file, { force: true })
    }
    return workspace
  }

  /** The bare repository that test runs deliver to. Where it is on this machine is told to nobody. */
  testRemote(organisation: string, repository: string): string {
    const name = `${sha256(`${organisation}\n${repository}`).slice(0, 40)}.git`
    return join(this.#options.root, 'test-remotes', name)
  }

  /** Removes what there is of a run, also of one that was never opened to its end. */
  remove(runId: string): Promise<void> {
    return removeTree(runFolder(this.#options.root, runId).path)
  }

  /** Removes the folders of all runs that are not named, and answers how many there were. */
  async sweep(openRuns: ReadonlySet<string>): Promise<number> {
    const runs = join(this.#options.root, 'runs')
    const dead = (await readdir(runs).catch(() => [])).filter((runId) => !openRuns.has(runId))
    for (const runId of dead) await removeTree(join(runs, runId))
    return dead.length
  }

  async #remoteFor(
    about: Pick<About, 'organisation' | 'repository'>,
    use: 'read' | 'publish',
  ): Promise<Remote> {
    const url = parseRepositoryUrl(about.repository)
    const { host } = new URL(url.href)
    const credential = await this.#options.findCredential({ organisation: about.organisation, host, use })
    return openRemote(url, this.#guard, credential)
  }

  async #checkBranch(branch: string): Promise<void> {
    if (PLAIN_BRANCH.test(branch)) return
    await this.#git(['check-ref-format', '--branch', branch]).catch(() => {
      throw new SourceError('source_invalid', 'The branch is not a name that git allows.')
    })
  }

  async #build(runId: string, about: About): Promise<Workspace> {
    await this.#checkBranch(about.baseBranch)
    const folder = runFolder(this.#options.root, runId)
    await removeTree(folder.path)
    const base = await this.#knowBase(about)
    await mkdir(folder.path, { recursive: true, mode: 0o711 })
    const index = await this.#plantTree(folder, about, this.#options.ownerOf?.(runId))
    await createGitDir(folder.store, { mirror: about.mirror })
    await chmod(folder.store, 0o700)
    const workspace = this.#workspace(runId, folder, about)
    await workspace.begin({ base, index })
    await replaceFile(folder.about, JSON.stringify(about))
    return workspace
  }

  /** What the base commit holds, remembered for runs that begin at the same one. */
  async #knowBase(about: About): Promise<KnownCommit> {
    const { mirror, baseCommit: commit, baseTree: tree } = about
    const name = `${mirror}\n${commit}`
    const base = this.#bases.get(name) ?? {
      commit,
      tree,
      listing: await this.#listBase(about),
      texts: new Map(),
    }
    this.#bases.set(name, base)
    return base
  }

  /** A small pack can hold a huge tree: what a checkout would take is known before it is made. */
  async #listBase({ mirror, baseCommit }: About): Promise<TreeListing | null> {
    const { diskLimitBytes } = this.#options
    const refuse = (cause?: unknown): never => {
      const limit = Math.round(diskLimitBytes / 1e6)
      const sentence = `The files of the repository take more than the ${limit} MB allowed for a workspace.`
      throw new SourceError('disk_limit', sentence, cause === undefined ? {} : { cause })
    }
    const call = { gitDir: mirror, timeoutMs: TREE_MS, maxOutputBytes: LIST_BYTES }
    const listed = await this.#git(listTree(baseCommit), call).catch((error: unknown) => {
      if (error instanceof GitFailure && error.kind === 'flood') return refuse(error)
      throw error
    })
    const listing = new Map<string, TreeEntry>()
    let bytes = 0
    for (const [path, entry] of readListing(listed.bytes)) {
      if (entry.bytes !== null) bytes += Math.max(entry.bytes, BLOCK_BYTES)
      if (bytes > diskLimitBytes) refuse()
      if (listing.size <= LISTED_KEPT) listing.set(path, entry)
    }
    return listing.size > LISTED_KEPT ? null : listing
  }

  /**
   * The tree at the base commit, with a `.git` for the agent's convenience; answers where its index is. The agent's
   * user checks it out, so that every file is its own from the beginning and stays as the index knows it.
   */
  async #plantTree(folder: RunFolder, about: About, owner: Owner | undefined): Promise<string> {
    const { baseBranch, baseCommit, mirror } = about
    const agents = join(folder.tree, '.git')
    await createGitDir(agents, { mirror, config: AGENT_CONFIG, head: baseBranch })
    await writeFile(join(agents, 'packed-refs'), `${baseCommit} refs/heads/${baseBranch}\n`)
    await mkdir(join(agents, 'hooks'))
    await mkdir(join(folder.guard, 'hooks'), { recursive: true })
    await writeFile(join(folder.guard, 'config'), AGENT_CONFIG)
    await owner?.own(folder.tree)
    const inTree = { gitDir: agents, workTree: folder.tree, user: owner, timeoutMs: TREE_MS }
    await this.#git(['read-tree', '--reset', '-u', baseCommit], inTree)
    return join(agents, 'index')
  }

  #store(folder: RunFolder): Store {
    const { diskLimitBytes } = this.#options
    return new Store({ git: this.#git, folder: folder.store, tree: folder.tree, diskLimitBytes })
  }

  #workspace(runId: string, folder: RunFolder, about: About): Workspace {
    return new Workspace({
      ...about,
      folder,
      store: this.#store(folder),
      own: async (path) => this.#options.ownerOf?.(runId)?.own(path),
      push: (wanted) => this.#push(folder, about, wanted),
    })
  }

  async #push(folder: RunFolder, about: About, wanted: PushOptions): Promise<PushResult> {
    const { commit, branch, expected = '', to = 'source', signal } = wanted
    try {
      await this.#checkBranch(branch)
      const target = await this.#targetOf(about, to)
      const push = { git: this.#git, store: folder.store, target, commit, branch, expected, signal }
      if (to === 'test') return await pushBranch(push)
      const base = wanted.base ?? about.baseBranch
      // Nearly always the base has not moved, and then one question answers both.
      const unmoved = { branch: base, commit: about.baseCommit }
      const done = base === branch ? undefined : await pushWhile(push, unmoved)
      if (done !== undefined) return done
      const heads = await remoteHeads(this.#git, target, [branch, base], signal)
      if (heads.get(branch) === commit) return { outcome: 'up_to_date' }
      await this.#refuseMovedBase(about, base, heads.get(base), signal)
      return await pushBranch(push)
    } catch (error) {
      throw deliveryFailure(error, about.repository)
    }
  }

  async #targetOf(about: About, to: 'source' | 'test'): Promise<PushTarget> {
    if (to === 'source') {
      const { url, call } = await this.#remoteFor(about, 'publish')
      return { address: url.href, url, call }
    }
    const address = this.testRemote(about.organisation, about.repository)
    await createGitDir(address, { mirror: about.mirror })
    return { address, call: { environment: { GIT_ALLOW_PROTOCOL: 'file' } } }
  }

  /** The branch that the result is meant for must still contain the commit that it was made from. */
  async #refuseMovedBase(about: About, branch: string, head: string | undefined, signal?: AbortSignal) {
    if (head === about.baseCommit) return
    if (head === undefined)
      throw new DeliveryError('base_moved', `The branch ${branch} is gone from the repository.`)
    const remote = await this.#remoteFor(about, 'read')
    const { folder } = await this.#mirrors.fetch({ organisation: about.organisation, remote, branch, signal })
    const isAncestor = ['merge-base', '--is-ancestor', about.baseCommit, head]
    await this.#git(isAncestor, { gitDir: folder }).catch((cause: unknown) => {
      const base = about.baseCommit.slice(0, 12)
      const sentence = `The branch ${branch} was rewritten and no longer contains ${base}: run again from its present state.`
      throw new DeliveryError('base_moved', sentence, { cause })
    })
  }
}
