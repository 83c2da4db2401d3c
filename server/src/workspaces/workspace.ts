import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import { invariant } from '../lib/invariant.ts'
import type { ChangedFile } from './changed-files.ts'
import type { PushOptions, PushResult } from './delivery.ts'
import type { Beginning, Staged, Store } from './store.ts'
import { LISTED_KEPT } from './tree-listing.ts'

/**
 * Owns: the files of one run: the tree that the agent changes, its checkpoints and its sealed commits.
 * Invariants: the base commit never moves; a checkpoint or sealed commit, once returned, is on disk under a ref;
 * a later checkpoint than the restored one does not exist.
 * Leaves to others: that no process of the agent runs during a call; which journal step a number means.
 */

export interface Mount {
  source: string
  target: string
  readOnly: boolean
}

export interface Checkpoint {
  step: number
  commit: string
}

export interface Sealed {
  commit: string
  /** The tree object: equal trees mean equal files. */
  tree: string
  /** Whether anything differs from the base commit. */
  changed: boolean
  /** Paths that a commit cannot hold and that were left out. */
  skipped: string[]
}

/** Where everything of one run stands. */
export interface RunFolder {
  path: string
  tree: string
  store: string
  /** What is mounted over the agent's own `.git/config` and `.git/hooks`. */
  guard: string
  /** Written last: a folder without it was never finished. */
  about: string
}

export function runFolder(root: string, runId: string): RunFolder {
  invariant(/^[a-zA-Z0-9_-]{1,64}$/.test(runId), 'a run id is a plain name')
  const path = join(root, 'runs', runId)
  const at = (name: string) => join(path, name)
  return { path, tree: at('tree'), store: at('store.git'), guard: at('guard'), about: at('about.json') }
}

export interface WorkspaceParts {
  store: Store
  folder: RunFolder
  /** The bare mirror whose objects the run borrows. */
  mirror: string
  baseCommit: string
  baseTree: string
  baseBranch: string
  /** Gives the tree to the user that the agent runs as. */
  own(path: string): Promise<void>
  push(options: PushOptions): Promise<PushResult>
}

const DIFF_BYTES = 2 * 1024 * 1024
const SEARCHED_BYTES = 32 * 1024 * 1024
export const CHECKPOINTS = 'refs/checkpoints/'
const SEALED = 'refs/sealed/'

const checkpointRef = (step: number): string => `${CHECKPOINTS}${String(step).padStart(9, '0')}`
export const stepOf = (ref: string): number => Number(ref.slice(CHECKPOINTS.length))
const kindOf = (path: string) =>
  lstat(path).then(
    (found) => (found.isDirectory() ? 'folder' : found.isFile() ? 'file' : 'other'),
    () => 'missing',
  )

export class Workspace {
  /** The folder the agent works in. */
  readonly tree: string
  readonly baseCommit: string
  readonly baseBranch: string
  readonly #parts: WorkspaceParts
  readonly #store: Store
  /** The last one, unless it is large: several gates search it. */
  #searched: { commit: string; diff: string } | null = null
  /** What the commit that was asked about last changed, unless that is a lot. */
  #changed: { commit: string; files: readonly ChangedFile[] } | null = null

  constructor(parts: WorkspaceParts) {
    this.#parts = parts
    this.#store = parts.store
    this.tree = parts.folder.tree
    this.baseCommit = parts.baseCommit
    this.baseBranch = parts.baseBranch
  }

  /** Takes over the tree as it was just checked out; once, before anything else. */
  begin(beginning: Beginning): Promise<void> {
    return this.#store.begin(beginning)
  }

  /**
   * What the jail has to mount besides the tree, which stands at `treeTarget` inside. What guards the agent's
   * `.git` are our own copies, so a link put in their place leads nowhere; where the agent removed its `.git`
   * nothing is left to guard, because the worker never reads it.
   */
  async mounts(treeTarget: string): Promise<Mount[]> {
    const { mirror, folder } = this.#parts
    const objects = join(mirror, 'objects')
    const mounts = [{ source: objects, target: objects, readOnly: true }]
    const agents = join(this.tree, '.git')
    if ((await kindOf(agents)) !== 'folder') return mounts
    for (const [name, kind] of [['config', 'file'] as const, ['hooks', 'folder'] as const]) {
      if ((await kindOf(join(agents, name))) !== kind) continue
      mounts.push({
        source: join(folder.guard, name),
        target: join(treeTarget, '.git', name),
        readOnly: true,
      })
    }
    return mounts
  }

  /**
   * Stores the tree as it is after a journal step, with its ignored files but without ignored folders.
   * `changed` is against the checkpoint before, or the base.
   */
  async checkpoint(
    step: number,
    iteration: number,
  ): Promise<{ commit: string; staged: Staged; changed: boolean }> {
    const store = this.#store
    const last = (await store.listRefs(CHECKPOINTS)).at(-1)
    const { ignored, ...staged } = await store.stageAll()
    const { tree } = staged
    const parents = [this.baseCommit]
    const about = { message: `Checkpoint in iteration ${iteration}\n`, atSeconds: 0 }
    if (ignored !== undefined) parents.push(await store.commit({ tree: ignored, parents: [], ...about }))
    const commit = await store.commit({ tree, parents, ...about })
    await store.setRef({ name: checkpointRef(step), commit, tree })
    return { commit, staged, changed: tree !== (last?.tree ?? this.#parts.baseTree) }
  }

  /** Returns the tree to the newest checkpoint at or before `step`, else to the base, and forgets later ones. */
  async restore(step = Number.MAX_SAFE_INTEGER): Promise<Checkpoint | undefined> {
    const store = this.#store
    const all = await store.listRefs(CHECKPOINTS)
    const found = all.findLast((ref) => stepOf(ref.name) <= step)
    await store.reset(found?.commit ?? this.baseCommit, found && (await store.ignoredOf(found.commit)))
    await store.deleteRefs(all.map((ref) => ref.name).filter((name) => stepOf(name) > step))
    await this.#parts.own(this.tree)
    return found && { step: stepOf(found.name), commit: found.commit }
  }

  /**
   * The iteration's result as one commit on top of the base; the base itself when nothing changed. `staged` is what
   * the newest checkpoint gave, where nothing has touched the tree since.
   */
  async seal(message: string, atMs: number, staged?: Staged): Promise<Sealed> {
    const store = this.#store
    const base = this.baseCommit
    const { tree, skipped } = staged ?? (await store.stage())
    if (tree === this.#parts.baseTree) return { commit: base, tree, changed: false, skipped }
    const commit = await store.commit({
      tree,
      parents: [base],
      message: `${message.trim()}\n`,
      atSeconds: Math.floor(atMs / 1000),
    })
    await store.setRef({ name: `${SEALED}${commit}`, commit, tree })
    return { commit, tree, changed: true, skipped }
  }

  /** What another machine needs beyond the base commit; empty for the base commit itself. */
  async bundle(commit: string): Promise<Buffer> {
    if (commit === this.baseCommit) return Buffer.alloc(0)
    const refs = [...(await this.#store.listRefs(CHECKPOINTS)), ...(await this.#store.listRefs(SEALED))]
    const wanted = refs.find((ref) => ref.commit === commit)
    invariant(wanted, 'only a checkpoint or a sealed commit is bundled')
    // The checkpoints with the same files go along, so that the other machine knows the step.
    const names = refs.filter((ref) => ref.tree === wanted.tree).map((ref) => ref.name)
    return this.#store.bundle(names, this.baseCommit)
  }

  /** Takes over what `bundle` gave, and restores its newest checkpoint; a bundle without one counts as step 0. */
  async adopt(bundleFile: string): Promise<Checkpoint | undefined> {
    await this.#store.unbundle(bundleFile)
    const [sealed] = await this.#store.listRefs(SEALED)
    const checkpoints = await this.#store.listRefs(CHECKPOINTS)
    if (sealed && checkpoints.length === 0) await this.#store.setRef({ ...sealed, name: checkpointRef(0) })
    return this.restore()
  }

  /** For people. */
  async diff(commit: string): Promise<{ text: string; truncated: boolean }> {
    const { bytes, truncated } = await this.#store.diff(this.baseCommit, commit, { maxBytes: DIFF_BYTES })
    return { text: bytes.toString(), truncated }
  }

  /** For searching: all that a commit changed, binary files too; nothing where it is more than can be searched. */
  async searchableDiff(commit: string): Promise<string | undefined> {
    if (this.#searched?.commit === commit) return this.#searched.diff
    const whole = { maxBytes: SEARCHED_BYTES, asText: true }
    const { bytes, truncated } = await this.#store.diff(this.baseCommit, commit, whole)
    if (truncated) return undefined
    const diff = bytes.toString()
    if (bytes.length <= DIFF_BYTES) this.#searched = { commit, diff }
    return diff
  }

  /** What a sealed commit added, changed or deleted. */
  async changes(commit: string): Promise<readonly ChangedFile[]> {
    if (this.#changed?.commit === commit) return this.#changed.files
    const files = await this.#store.changes(this.baseCommit, commit)
    if (files.length <= LISTED_KEPT) this.#changed = { commit, files }
    return files
  }

  async changedPaths(commit: string): Promise<string[]> {
    return (await this.changes(commit)).map(({ path }) => path)
  }

  /** What the setup installed, and is not tracked, stays out of checkpoints and commits. */
  ignoreUntracked(): Promise<void> {
    return this.#store.excludeUntracked()
  }

  /** Writes exactly the commit's files into an empty or missing folder, without a `.git`. */
  checkoutTo(commit: string, folder: string): Promise<void> {
    return this.#store.exportTo(commit, folder)
  }

  /** A regular file at the base commit. Throws `source_invalid` when it is larger than `maxBytes`. */
  readFileAtBase(path: string, maxBytes: number): Promise<string | undefined> {
    return this.#store.readFile(this.baseCommit, path, maxBytes)
  }

  async listFilesAt(commit: string): Promise<string[]> {
    const atBase = await this.#store.listFiles(this.baseCommit)
    if (commit === this.baseCommit) return atBase
    const files = new Set(atBase)
    for (const { path, status } of await this.changes(commit)) {
      if (status === 'deleted') files.delete(path)
      else files.add(path)
    }
    return [...files].toSorted()
  }

  /** Puts a sealed commit on a branch; again is harmless. Throws `DeliveryError`. */
  push(options: PushOptions): Promise<PushResult> {
    return this.#parts.push(options)
  }
}
