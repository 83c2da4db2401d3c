import type { ToolExecutor } from '../domain/tool-call.ts'
import { middleOut } from '../lib/text.ts'
import { builtInTool, done, refused } from './definition.ts'
import type { WorkspaceCaps } from './workspace-caps.ts'

/** How a command in the jail ended. */
export interface CommandResult {
  /** `exited`, `signaled`, `timed_out`, `disk_limit`, `canceled`; any other name means that it never ran. */
  outcome: string
  exitCode?: number
  /** The signal it died of. */
  signal?: string
  /** Why it was stopped or never ran, a sentence. */
  reason?: string
  /** What it printed, both streams in order. */
  output: string
  /** Whether output was left out. */
  truncated: boolean
  durationMs: number
}

/** Runs a shell command in the workspace's jail; when it resolves, no process of it is left. */
export type RunCommand = (
  command: string,
  options: { timeoutMs: number; signal: AbortSignal },
) => Promise<CommandResult>

const DEFAULT_SECONDS = 120
/** Room for starting and clearing up the jail. */
const MARGIN_SECONDS = 30

export function runCommandTool(runCommand: RunCommand, caps: WorkspaceCaps): ToolExecutor {
  return builtInTool({
    name: 'run_command',
    description: `Runs a shell command in the workspace, without network, and gives its exit code and what it printed. Nothing it starts outlives it. timeoutSeconds is ${DEFAULT_SECONDS} unless given, at most ${caps.commandSeconds}.`,
    effect: 'workspace',
    idempotent: false,
    timeoutSeconds: caps.commandSeconds + MARGIN_SECONDS,
    properties: {
      command: { type: 'string', minLength: 1, maxLength: 32_768 },
      timeoutSeconds: { type: 'integer', minimum: 1, maximum: caps.commandSeconds },
    },
    required: ['command'],
    async run(args, signal) {
      const command = args.text('command')
      if (command.includes('\0')) return refused('not_allowed', 'The command contains a NUL character.')
      const seconds = args.number('timeoutSeconds', Math.min(DEFAULT_SECONDS, caps.commandSeconds))
      const result = await runCommand(command, { timeoutMs: seconds * 1000, signal })
      const output = middleOut(result.output, caps.answerChars)
      const report = `${headline(result, seconds)}\n${output === '' ? '(no output)' : output}`
      if (result.outcome === 'exited' || result.outcome === 'signaled') return done(report)
      const { outcome } = result
      if (outcome === 'timed_out' || outcome === 'disk_limit' || outcome === 'canceled')
        return refused(outcome, report)
      return refused('failed', report)
    },
  })
}

function headline(result: CommandResult, seconds: number): string {
  const took = `after ${(result.durationMs / 1000).toFixed(1)} s`
  const cut = result.truncated ? '; a part of the output is left out' : ''
  if (result.outcome === 'exited') return `[exit code ${result.exitCode} ${took}${cut}]`
  if (result.outcome === 'signaled') return `[died of ${result.signal} ${took}${cut}]`
  if (result.outcome === 'timed_out') return `[stopped: it took longer than ${seconds} s${cut}]`
  return `[${result.outcome} ${took}${cut}]${result.reason ? ` ${result.reason}` : ''}`
}
