import { Command, CommanderError } from 'commander'
import { type Environment, readCommandLineSettings } from '../config.ts'
import { VERSION } from '../version.ts'
import { addCredentials } from './commands/credentials.ts'
import { addCredits } from './commands/credits.ts'
import { addDemo } from './commands/demo.ts'
import { addDoctor } from './commands/doctor.ts'
import { addExport } from './commands/export.ts'
import { addImport } from './commands/import.ts'
import { addKeys } from './commands/keys.ts'
import { addOrganization } from './commands/organization.ts'
import { addRuns } from './commands/runs.ts'
import { addStart } from './commands/start.ts'
import { addWebhooks } from './commands/webhooks.ts'
import type { Context } from './context.ts'
import { EXIT, explain } from './failure.ts'
import { type Host, Terminal } from './terminal.ts'

/** Runs one command line and gives its exit code; never throws. */
export async function runCommandLine(
  argv: readonly string[],
  host: Host,
  environment: Environment,
): Promise<number> {
  const settings = readCommandLineSettings(environment)
  const terminal = new Terminal(host, settings)
  outliveReaders(host)
  let code: number = EXIT.ok
  const program = createProgram({
    terminal,
    environment,
    settings,
    host,
    async run(action) {
      code = await action()
    },
  })
  try {
    await program.parseAsync(argv, { from: 'user' })
    return code
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    return explain(error, terminal)
  }
}

/** Nobody reads any more: a server ends in order, anything else at once. Talk that is not heard ends nothing. */
function outliveReaders(host: Host): void {
  host.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') return
    if (host.listenerCount('SIGTERM') > 0) host.emit('SIGTERM', 'SIGTERM')
    else host.exit(EXIT.ok)
  })
  host.stderr.on('error', () => undefined)
}

function createProgram(context: Context): Command {
  const program = new Command('./agentgate')
    .description('AgentGate turns any AI agent into a dependable API.')
    .version(VERSION)
    .configureOutput({
      writeOut: (text) => context.terminal.streams.stdout.write(text),
      writeErr: (text) => context.terminal.streams.stderr.write(text),
    })
    .exitOverride()
    .showHelpAfterError('(--help tells more)')
  for (const add of [
    addStart,
    addDemo,
    addRuns,
    addKeys,
    addCredentials,
    addCredits,
    addWebhooks,
    addOrganization,
    addDoctor,
    addExport,
    addImport,
  ]) {
    add(program, context)
  }
  return program
}
