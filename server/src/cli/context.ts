import type { Command } from 'commander'
import type { CommandLineSettings, Environment } from '../config.ts'
import type { Host, Terminal } from './terminal.ts'

/** What every command is given. */
export interface Context {
  terminal: Terminal
  environment: Environment
  settings: CommandLineSettings
  host: Host
  /** Runs a command's action and keeps its exit code. */
  run(action: () => Promise<number>): Promise<void>
}

export interface OutputOptions {
  json?: true
  quiet?: true
}

/** The options of a command that gives data. */
export const withJson = (command: Command): Command => command.option('--json', 'print JSON')

/** Prints `value` as JSON where that is wanted, else what `lines` makes of it. */
export function print(
  { terminal }: Context,
  value: unknown,
  { json, lines }: { json: true | undefined; lines: () => readonly string[] },
): void {
  if (json) terminal.data(JSON.stringify(value, null, 2))
  else for (const line of lines()) terminal.data(line)
}
