/** What a commit holds at a path. */
export interface TreeEntry {
  /** As git writes it: `100644`, `120000` for a link, `160000` for a submodule. */
  mode: string
  id: string
  /** Of a file or link. */
  bytes: number | null
}

/** Everything below a commit's root that is not a folder, by path. */
export type TreeListing = ReadonlyMap<string, TreeEntry>

/** What is known of a commit. Its name tells all of it, so that runs may share it. */
export interface KnownCommit {
  commit: string
  /** Its tree object. */
  tree: string
  /** `null` where it is too long to be kept. */
  listing: TreeListing | null
  /** Small files that were read, by their ids. */
  texts: Map<string, string>
}

/** A longer listing is not kept: what is wanted of it is asked for anew. */
export const LISTED_KEPT = 10_000

/** The arguments that `readListing` reads the answer of; paths, if any, follow. */
export const listTree = (commit: string): string[] => ['ls-tree', '-r', '-l', '-z', commit]

const ENTRY = /^(\d+) \w+ (\w+) +(\d+|-)\t([\s\S]+)$/

/** The entries in git's order, one at a time, because there may be a million. */
export function* readListing(bytes: Buffer): Generator<[path: string, entry: TreeEntry]> {
  for (const line of bytes.toString().split('\0')) {
    const [, mode, id, size, path] = ENTRY.exec(line) ?? []
    if (mode === undefined || id === undefined || path === undefined) continue
    yield [path, { mode, id, bytes: size === '-' ? null : Number(size) }]
  }
}

export const isSubmodule = ({ mode }: TreeEntry): boolean => mode === '160000'
export const isRegularFile = ({ mode }: TreeEntry): boolean => mode.startsWith('100')
