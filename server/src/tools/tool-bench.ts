import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { JsonObject } from '../domain/json.ts'
import type { ToolOutcome } from '../domain/tool-call.ts'
import { validateArguments } from './arguments.ts'
import { type WorkspaceToolsOptions, workspaceTools } from './workspace-tools.ts'

export interface ToolBench extends AsyncDisposable {
  root: string
  /** A folder beside the workspace, with a `secret.txt`. */
  outside: string
  call(tool: string, args: JsonObject, signal?: AbortSignal): Promise<ToolOutcome>
}

/** A workspace with the given files, and its tools behind the check of their arguments, for tests. */
export async function toolBench(
  files: Record<string, string | Uint8Array> = {},
  options: Partial<WorkspaceToolsOptions> = {},
): Promise<ToolBench> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'agentgate-tools-')))
  const root = join(folder, 'workspace')
  const outside = join(folder, 'outside')
  await mkdir(outside)
  await writeFile(join(outside, 'secret.txt'), 'top secret')
  await mkdir(root)
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), content)
  }
  const runCommand = () =>
    Promise.resolve({ outcome: 'exited', exitCode: 0, output: '', truncated: false, durationMs: 1 })
  const tools = new Map(
    workspaceTools({ root, runCommand, ...options }).map((tool) => [tool.definition.name, tool]),
  )
  return {
    root,
    outside,
    async call(name, args, signal = new AbortController().signal) {
      const tool = tools.get(name)
      if (tool === undefined) return { ok: false, code: 'unknown_tool', content: name }
      const checked = validateArguments(tool.definition, { arguments: args })
      return checked.ok ? await tool.execute(checked.arguments, signal) : checked
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  }
}
