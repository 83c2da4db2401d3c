import type { Command } from 'commander'
import { type ConnectionOptions, connect, withConnection } from '../connection.ts'
import { type Context, type OutputOptions, print, withJson } from '../context.ts'
import { EXIT } from '../failure.ts'

export function addWebhooks(program: Command, context: Context): void {
  const webhooks = program.command('webhooks').description('webhooks of work orders')
  const secret = webhooks.command('secret').description('what the webhooks of work orders are signed with')
  withJson(withConnection(secret))
    .option('--rotate', 'make a new one; the old one goes on signing for 24 hours')
    .action((options: ConnectionOptions & OutputOptions & { rotate?: true }) =>
      context.run(async () => {
        const { webhookSecret } = connect(context, options)
        const answer = await (options.rotate ? webhookSecret.rotate() : webhookSecret.get())
        print(context, answer, { json: options.json, lines: () => [answer.secret ?? ''] })
        if (answer.previousSecretUntil !== null && !options.json) {
          context.terminal.say(`the secret before it also signs until ${answer.previousSecretUntil}`)
        }
        return EXIT.ok
      }),
    )
}
