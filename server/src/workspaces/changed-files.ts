import { entries, type GitOutput } from './git.ts'

export interface ChangedFile {
  path: string
  status: 'added' | 'modified' | 'deleted' | 'type_changed'
  added: number
  removed: number
  binary: boolean
}

const CHANGES: Readonly<Record<string, ChangedFile['status']>> = {
  A: 'added',
  M: 'modified',
  D: 'deleted',
  T: 'type_changed',
}

export const LIST_CHANGES = [
  'diff-tree',
  '-r',
  '-z',
  '--no-ext-diff',
  '--no-textconv',
  '--no-renames',
  '--raw',
  '--numstat',
]

/** Every file that `LIST_CHANGES` names, with its added and removed lines; binary files count none. */
export function readChanges(output: GitOutput): ChangedFile[] {
  const lines = entries(output)
  // First a pair of entries for each file, `:modes and ids and status` and the path; then one for each with its counts.
  const files = lines.findIndex((line, at) => at % 2 === 0 && !line.startsWith(':'))
  return lines.slice(files < 0 ? lines.length : files).map((line, at) => {
    const [added = '', removed = '', ...path] = line.split('\t')
    return {
      path: path.join('\t'),
      status: CHANGES[lines[2 * at]?.at(-1) ?? ''] ?? 'modified',
      added: Number(added) || 0,
      removed: Number(removed) || 0,
      binary: added === '-',
    }
  })
}
