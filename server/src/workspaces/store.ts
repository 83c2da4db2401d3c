import { appendFile, copyFile, lstat, mkdir, readdir, rm, stat, utimes } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { replaceFile } from '../lib/replace-file.ts'
import { together } from '../lib/together.ts'
import { type ChangedFile, LIST_CHANGES, readChanges } from './changed-files.ts'
import { SourceError } from './failures.ts'
import { entries, type Git, GitFailure, type GitOutput, zeroEnded } from './git.ts'
import { type NewCommit, writeCommit } from './loose-object.ts'
import {
  isRegularFile,
  isSubmodule,
  type KnownCommit,
  LISTED_KEPT,
  listTree,
  readListing,
  type TreeListing,
} from './tree-listing.ts'

/**
 * Owns: the worker's own git directory of one run, beside the tree and out of the agent's reach.
 * Invariants: whatever the agent left in the tree is only ever data: its `.git` is not read, nested repositories
 * are stored as the plain files they hold, submodules stay as the base has them, links are stored, not followed.
 * Leaves to others: that nothing of the agent runs while the tree is read or written.
 */

export interface StoreOptions {
  git: Git
  /** The bare directory, `store.git`. */
  folder: string
  tree: string
  /** What the files of one change may hold together. */
  diskLimitBytes: number
}

export interface Staged {
  /** The tree object of everything that is not ignored. */
  tree: string
  /** Paths that git cannot hold (a device, an unreadable file, a forbidden name); they are left out. */
  skipped: string[]
}

export interface StoredRef {
  name: string
  commit: string
  tree: string
}

const LIST_BYTES = 64 * 1024 * 1024
const TREE_MS = 10 * 60_000
const NESTED_ROUNDS = 20

/** The list of a million files or so. */
const LISTING_BYTES = 128 * 2 ** 20

/** What a new store begins with: a tree that was just checked out, and nothing of its own. */
export interface Beginning {
  base: KnownCommit
  /** The index that the checkout wrote, so that unchanged files need no second reading. */
  index: string
}

/** A file that was read this short is remembered with its commit. */
const TEXT_KEPT = 64 * 1024

/** A git directory made by `createGitDir`, with its run's tree. */
export class Store {
  readonly #git: Git
  readonly #tree: string
  readonly #index: string
  readonly #diskLimitBytes: number
  readonly #inStore: { gitDir: string; maxOutputBytes: number }
  readonly #inTree: { gitDir: string; workTree: string; timeoutMs: number; maxOutputBytes: number }
  /** The tree object of the index, where it is known. */
  #staged: string | null = null
  /** Everything below `refs`, once it has been read: nobody else writes there. */
  #refs: Map<string, StoredRef> | null = null
  /** The commit that was listed last. */
  #listed: Pick<KnownCommit, 'commit' | 'listing' | 'texts'> | null = null

  constructor({ git, folder, tree, diskLimitBytes }: StoreOptions) {
    this.#git = git
    this.#tree = tree
    this.#index = join(folder, 'index')
    this.#diskLimitBytes = diskLimitBytes
    this.#inStore = { gitDir: folder, maxOutputBytes: LIST_BYTES }
    this.#inTree = { ...this.#inStore, workTree: tree, timeoutMs: TREE_MS }
  }

  async begin({ base, index }: Beginning): Promise<void> {
    const { mtimeMs } = await stat(index)
    await copyFile(index, this.#index)
    // What changes within the moment of the checkout is told from its content, by a look at the age of the index.
    const age = Math.floor(mtimeMs) / 1000
    await utimes(this.#index, age, age)
    const { listing } = base
    if (listing === null) await this.#freezeSubmodules()
    else await this.#freeze([...listing].flatMap(([path, entry]) => (isSubmodule(entry) ? [path] : [])))
    this.#staged = base.tree
    this.#refs = new Map()
    this.#listed = base
  }

  /** Brings the index up to the tree and stores its content. */
  stage(): Promise<Staged> {
    return this.#inTreeTerms(async () => this.#stage(await this.#findChanged()))
  }

  /**
   * The same, and stores the ignored files apart from what may be delivered; ignored folders, such as installed
   * packages, are left out. `ignored` is nothing when there are none.
   */
  stageAll(): Promise<Staged & { ignored: string | undefined }> {
    return this.#inTreeTerms(async () => {
      const changed = await this.#findChanged()
      // Nothing that is added is ignored, so neither waits for the other.
      const [staged, ignored] = await together([this.#stage(changed), this.#stageIgnored()])
      return { ...staged, ignored }
    })
  }

  async #stage(changed: readonly string[]): Promise<Staged> {
    const skipped: string[] = []
    if (changed.length > 0) {
      await this.#refuseTooLarge(changed)
      this.#staged = null
      await this.#git(['add', '--all', '--ignore-errors', '--', '.'], this.#inTree).catch(
        async (error: unknown) => {
          if (!(error instanceof GitFailure) || error.kind !== 'exit' || error.exitCode !== 1) throw error
          skipped.push(...(await this.#listChanged()))
        },
      )
    }
    this.#staged ??= (await this.#git(['write-tree'], this.#inTree)).text
    return { tree: this.#staged, skipped }
  }

  async #stageIgnored(): Promise<string | undefined> {
    const files = await this.#listIgnoredFiles()
    if (files.length === 0) return undefined
    await this.#refuseTooLarge(files)
    const call = { ...this.#inTree, indexFile: `${this.#index}.ignored` }
    await rm(call.indexFile, { force: true })
    await this.#git(['update-index', '--add', '-z', '--stdin'], { ...call, input: zeroEnded(files) })
    return (await this.#git(['write-tree'], call)).text
  }

  commit(wanted: NewCommit): Promise<string> {
    return writeCommit(this.#inStore.gitDir, wanted)
  }

  /** Makes the tree equal to a commit, from any state of tree and index; ignored folders stay. */
  reset(to: string, ignored: string | undefined): Promise<void> {
    return this.#inTreeTerms(() => this.#reset(to, ignored))
  }

  async treeOf(commit: string): Promise<string> {
    return (await this.#git(['rev-parse', '--verify', `${commit}^{tree}`], this.#inStore)).text
  }

  /** The second parent of a checkpoint, which holds its ignored files. */
  async ignoredOf(commit: string): Promise<string | undefined> {
    const found = await this.#git(['rev-parse', '--verify', '--quiet', `${commit}^2`], this.#inStore).catch(
      () => undefined,
    )
    return found?.text
  }

  /** As git would: by the name of its lock file, which no reader takes for a ref. */
  async setRef({ name, commit, tree }: StoredRef): Promise<void> {
    const refs = await this.#readRefs()
    const path = join(this.#inStore.gitDir, name)
    await mkdir(dirname(path), { recursive: true })
    await replaceFile(path, `${commit}\n`, `${path}.lock`)
    refs.set(name, { name, commit, tree })
  }

  async deleteRefs(names: readonly string[]): Promise<void> {
    if (names.length === 0) return
    const refs = await this.#readRefs()
    const input = names.map((name) => `delete ${name}\n`).join('')
    await this.#git(['update-ref', '--stdin'], { ...this.#inStore, input })
    for (const name of names) refs.delete(name)
  }

  /** What stands below a prefix, in the order of the names. */
  async listRefs(prefix: string): Promise<StoredRef[]> {
    const refs = [...(await this.#readRefs()).values()].filter(({ name }) => name.startsWith(prefix))
    return refs.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  }

  async #readRefs(): Promise<Map<string, StoredRef>> {
    if (this.#refs !== null) return this.#refs
    const format = '--format=%(refname) %(objectname) %(tree)'
    const listed = await this.#git(['for-each-ref', format], this.#inStore)
    const refs = listed.text.split('\n').flatMap((line) => {
      const [name, commit, tree] = line.split(' ')
      return name && commit && tree ? [{ name, commit, tree }] : []
    })
    this.#refs = new Map(refs.map((ref) => [ref.name, ref]))
    return this.#refs
  }

  /** Writes the files of a commit into an empty folder, through an index of its own. */
  async exportTo(commit: string, target: string): Promise<void> {
    const call = { ...this.#inTree, workTree: target, indexFile: `${target}.index` }
    try {
      await mkdir(target, { recursive: true })
      if ((await readdir(target)).length > 0)
        throw new SourceError('workspace_failed', 'A commit is only checked out into an empty folder.')
      await this.#git(['read-tree', '--reset', '-u', commit], call)
    } finally {
      await rm(call.indexFile, { force: true })
    }
  }

  /** The regular file at a path, or nothing; a link is not followed. */
  async readFile(commit: string, path: string, maxBytes: number): Promise<string | undefined> {
    const listing = (await this.#list(commit)) ?? (await this.#listing([...listTree(commit), '--', path]))
    const entry = listing.get(path)
    if (entry === undefined || !isRegularFile(entry)) return undefined
    if ((entry.bytes ?? 0) > maxBytes)
      throw new SourceError(
        'source_invalid',
        `The file ${path} of the repository is larger than ${maxBytes} bytes.`,
      )
    const texts = this.#listed?.texts
    const known = texts?.get(entry.id)
    if (known !== undefined) return known
    const { bytes } = await this.#git(['cat-file', 'blob', entry.id], this.#inStore)
    const text = bytes.toString()
    if (bytes.length <= TEXT_KEPT) texts?.set(entry.id, text)
    return text
  }

  async listFiles(commit: string): Promise<string[]> {
    const listing = (await this.#list(commit)) ?? (await this.#listing(listTree(commit)))
    return [...listing.keys()]
  }

  /** Nothing where the list is too long to be kept. */
  async #list(commit: string): Promise<TreeListing | null> {
    if (this.#listed?.commit !== commit) {
      const listing = await this.#listing(listTree(commit))
      this.#listed = { commit, listing: listing.size > LISTED_KEPT ? null : listing, texts: new Map() }
    }
    return this.#listed.listing
  }

  async #listing(list: readonly string[]): Promise<TreeListing> {
    const listed = await this.#git(list, { ...this.#inStore, maxOutputBytes: LISTING_BYTES })
    return new Map(readListing(listed.bytes))
  }

  /** `asText` shows what git takes for binary too, so that a NUL hides nothing. */
  diff(
    from: string,
    to: string,
    { maxBytes, asText = false }: { maxBytes: number; asText?: boolean },
  ): Promise<GitOutput> {
    const limits = { ...this.#inStore, maxOutputBytes: maxBytes, truncate: true }
    const shown = asText ? ['--text', '--no-renames'] : ['--find-renames']
    return this.#git(['diff-tree', '-r', '-p', '--no-ext-diff', '--no-textconv', ...shown, from, to], limits)
  }

  async changes(from: string, to: string): Promise<ChangedFile[]> {
    return readChanges(await this.#git([...LIST_CHANGES, from, to], this.#inStore))
  }

  async bundle(refs: readonly string[], without: string): Promise<Buffer> {
    const limits = { ...this.#inStore, maxOutputBytes: this.#diskLimitBytes }
    return (await this.#git(['bundle', 'create', '--quiet', '-', ...refs, `^${without}`], limits)).bytes
  }

  /** Takes the commits of a bundle over, under the names they had. */
  async unbundle(file: string): Promise<void> {
    await this.#git(
      ['fetch', '--quiet', '--no-tags', '--no-write-fetch-head', '--', file, '+refs/*:refs/*'],
      {
        ...this.#inStore,
        environment: { GIT_ALLOW_PROTOCOL: 'file' },
      },
    )
    this.#refs = null
  }

  /**
   * From now on what is untracked here counts as ignored: it was installed, not written. Names are taken as they
   * are, whatever they mean to git as patterns.
   */
  async excludeUntracked(): Promise<void> {
    const list = ['ls-files', '--others', '--exclude-standard', '--directory', '-z']
    const paths = entries(await this.#git(list, this.#inTree)).filter((path) => !path.includes('\n'))
    if (paths.length === 0) return
    const info = join(this.#inStore.gitDir, 'info')
    await mkdir(info, { recursive: true })
    const patterns = paths.map((path) => `/${path.replaceAll(/[\\*?[\]!# ]/g, '\\$&')}\n`)
    await appendFile(join(info, 'exclude'), patterns.join(''))
  }

  async #reset(to: string, ignored: string | undefined): Promise<void> {
    this.#staged = null
    const readTree = () => this.#git(['read-tree', '--reset', '-u', to], this.#inTree)
    await readTree().catch(async (error: unknown) => {
      if (!(error instanceof GitFailure)) throw error
      await rm(this.#index, { force: true })
      await readTree()
    })
    await this.#freezeSubmodules()
    await this.#git(['clean', '-ffdq'], this.#inTree)
    for (const path of await this.#listIgnoredFiles()) await rm(join(this.#tree, path), { force: true })
    if (ignored === undefined) return
    const call = { ...this.#inTree, indexFile: `${this.#index}.ignored` }
    await this.#git(['read-tree', ignored], call)
    await this.#git(['checkout-index', '--all', '--force', '--quiet'], call)
  }

  async #freezeSubmodules(): Promise<void> {
    const staged = entries(await this.#git(['ls-files', '--stage', '-z'], this.#inTree))
    const links = staged.filter((entry) => entry.startsWith('160000 '))
    await this.#freeze(links.map((entry) => entry.slice(entry.indexOf('\t') + 1)))
  }

  /** Submodules are never looked into: a look would run git under the nested repository's configuration. */
  async #freeze(submodules: readonly string[]): Promise<void> {
    if (submodules.length === 0) return
    const input = zeroEnded(submodules)
    await this.#git(['update-index', '-z', '--skip-worktree', '--stdin'], { ...this.#inTree, input })
  }

  async #listChanged(): Promise<string[]> {
    const list = ['ls-files', '--others', '--modified', '--exclude-standard', '-z']
    return entries(await this.#git(list, this.#inTree))
  }

  async #listIgnoredFiles(): Promise<string[]> {
    const list = ['ls-files', '--others', '--ignored', '--exclude-standard', '--directory', '-z']
    return entries(await this.#git(list, this.#inTree)).filter((path) => !path.endsWith('/'))
  }

  /** Every changed path, after nested repositories have become plain folders. */
  async #findChanged(): Promise<string[]> {
    for (let round = 0; round < NESTED_ROUNDS; round++) {
      const changed = await this.#listChanged()
      const nested = changed.filter((path) => path.endsWith('/'))
      if (nested.length === 0) return changed
      for (const path of nested) await rm(join(this.#tree, path, '.git'), { recursive: true, force: true })
    }
    throw new SourceError('workspace_failed', `The workspace nests repositories over ${NESTED_ROUNDS} deep.`)
  }

  async #refuseTooLarge(paths: readonly string[]): Promise<void> {
    let bytes = 0
    for (const path of paths) {
      bytes += (await lstat(join(this.#tree, path)).catch(() => undefined))?.size ?? 0
      if (bytes > this.#diskLimitBytes)
        throw new SourceError(
          'disk_limit',
          `The changed files hold more than the ${Math.round(this.#diskLimitBytes / 1e6)} MB allowed for a workspace.`,
        )
    }
  }

  async #inTreeTerms<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act()
    } catch (error) {
      if (!(error instanceof GitFailure)) throw error
      const why = error.kind === 'flood' ? 'it holds too many files' : 'git could not handle it'
      throw new SourceError('workspace_failed', `The workspace could not be saved or restored: ${why}.`, {
        cause: error,
      })
    }
  }
}
