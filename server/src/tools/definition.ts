import type { JsonObject, JsonValue } from '../domain/json.ts'
import type { ToolDefinition, ToolEffect, ToolExecutor, ToolOutcome } from '../domain/tool-call.ts'
import { invariant } from '../lib/invariant.ts'
import { storable } from '../lib/text.ts'
import { isErrno, PathRefused } from './workspace-folder.ts'

export interface BuiltInTool {
  name: string
  description: string
  effect: ToolEffect
  idempotent: boolean
  timeoutSeconds?: number
  /** JSON Schemas of the arguments by name. */
  properties: Record<string, JsonObject>
  required?: string[]
  run(args: Arguments, signal: AbortSignal): Promise<ToolOutcome>
}

/** A built-in tool as the executor of its calls. What a call did wrong is an outcome, a bug is thrown. */
export function builtInTool(tool: BuiltInTool): ToolExecutor {
  const definition: ToolDefinition = {
    name: tool.name,
    description: tool.description,
    inputSchema: {
      type: 'object',
      properties: tool.properties,
      required: tool.required ?? [],
      additionalProperties: false,
    },
    effect: tool.effect,
    idempotent: tool.idempotent,
    timeoutSeconds: tool.timeoutSeconds ?? 60,
  }
  return {
    definition,
    async execute(args, signal) {
      if (signal.aborted) return refused('canceled', 'The call was canceled before it began.')
      try {
        const outcome = await tool.run(new Arguments(args), signal)
        return { ...outcome, content: storable(outcome.content) }
      } catch (error) {
        if (error instanceof PathRefused) return refused(error.code, storable(error.message))
        if (isErrno(error)) return refused('failed', storable(ERRNO[error.code ?? ''] ?? `${error.code}.`))
        throw error
      }
    },
  }
}

export const done = (content: string): ToolOutcome => ({ ok: true, content })

export const refused = (
  code: 'not_allowed' | 'failed' | 'timed_out' | 'disk_limit' | 'canceled',
  content: string,
): ToolOutcome => ({
  ok: false,
  code,
  content,
})

const ERRNO: Readonly<Record<string, string>> = {
  ENOENT: 'The path does not exist.',
  ENOTDIR: 'A part of the path is not a folder.',
  ELOOP: 'A part of the path became a symbolic link.',
  EACCES: 'Permission denied.',
  EPERM: 'Permission denied.',
  EROFS: 'This part of the workspace is read-only.',
  ENOSPC: 'The workspace is full.',
  EDQUOT: 'The workspace is full.',
  ENAMETOOLONG: 'A name in the path is too long.',
}

/** Arguments that passed the tool's schema, read by type. */
export class Arguments {
  readonly #values: Record<string, JsonValue>
  constructor(values: Record<string, JsonValue>) {
    this.#values = values
  }
  text(name: string): string {
    const value = this.textOrNull(name)
    invariant(value !== null, `argument ${name} passed its schema`)
    return value
  }
  textOrNull(name: string): string | null {
    const value = this.#values[name]
    return typeof value === 'string' ? value : null
  }
  number(name: string, absent: number): number {
    const value = this.#values[name]
    return typeof value === 'number' ? value : absent
  }
  flag(name: string): boolean {
    return this.#values[name] === true
  }
}
