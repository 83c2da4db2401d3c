import type { ToolExecutor } from '../domain/tool-call.ts'
import { finishTool } from './finish.ts'
import { listFilesTool } from './list-files.ts'
import { readFileTool } from './read-file.ts'
import { type RunCommand, runCommandTool } from './run-command.ts'
import { searchTool } from './search.ts'
import { WORKSPACE_CAPS, type WorkspaceCaps } from './workspace-caps.ts'
import { editFileTool, type Own, writeFileTool } from './write-file.ts'

export interface WorkspaceToolsOptions {
  /** Host path of the workspace tree, links resolved. */
  root: string
  runCommand: RunCommand
  /** Hands new files and folders to the user that the commands run as. */
  own?: Own
  caps?: Partial<WorkspaceCaps>
}

/**
 * The tools of a coding agent. The file tools work on the host's side of the tree, which is safe against
 * hostile paths and links by themselves; calls of one workspace run one after the other.
 */
export function workspaceTools(options: WorkspaceToolsOptions): ToolExecutor[] {
  const { root, runCommand } = options
  const caps = { ...WORKSPACE_CAPS, ...options.caps }
  const own = options.own ?? (() => Promise.resolve())
  return [
    listFilesTool(root, caps),
    searchTool(root, caps),
    readFileTool(root, caps),
    writeFileTool(root, caps, own),
    editFileTool(root, caps, own),
    runCommandTool(runCommand, caps),
    finishTool(),
  ]
}
