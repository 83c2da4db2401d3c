import { Argument, type Command } from 'commander'
import { REDACTIONS, type Redaction } from '../../lib/redact.ts'
import { type Context, type OutputOptions, withJson } from '../context.ts'

interface Options extends OutputOptions {
  organization?: string
}

export function addOrganization(program: Command, context: Context): void {
  const organization = program.command('organization').description('settings of the organisation')
  withJson(organization.command('redaction').description('what is masked in all that its runs keep and show'))
    .addArgument(
      new Argument(
        '[redaction]',
        'on: also what is likely to be a secret; nothing shows the setting',
      ).choices(REDACTIONS),
    )
    .option('--organization <id>', 'which one, where there are several')
    .action((redaction: Redaction | undefined, options: Options) =>
      context.run(async () => (await import('../redaction.ts')).redactionOf(context, redaction, options)),
    )
}
