/** What one call of a workspace tool may take and give. Bytes are of files, characters of answers. */
export interface WorkspaceCaps {
  /** Characters of one answer. */
  answerChars: number
  /** Characters shown of one line. */
  lineChars: number
  /** Bytes of a file that is read, searched or edited. */
  fileBytes: number
  /** Bytes searched in one call. */
  searchBytes: number
  searchMs: number
  /** Entries listed, and matches given, in one call. */
  entries: number
  commandSeconds: number
}

export const WORKSPACE_CAPS: WorkspaceCaps = {
  answerChars: 40_000,
  lineChars: 1_000,
  fileBytes: 2 * 1024 * 1024,
  searchBytes: 64 * 1024 * 1024,
  searchMs: 10_000,
  entries: 1_000,
  commandSeconds: 600,
}
