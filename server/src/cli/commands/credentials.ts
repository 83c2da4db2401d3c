import { type Command, Option } from 'commander'
import { type ConnectionOptions, collect, connect, withConnection } from '../connection.ts'
import { type Context, type OutputOptions, print, withJson } from '../context.ts'
import { EXIT } from '../failure.ts'
import { readSecret } from '../secret-input.ts'
import { table } from '../terminal.ts'

type Options = ConnectionOptions & OutputOptions

interface NewCredential {
  kind: 'token' | 'basic'
  use: 'read' | 'publish'
  username?: string
  apiBaseUrl?: string
}

export function addCredentials(program: Command, context: Context): void {
  const credentials = program.command('credentials').description('credentials of git hosts')
  const add = (usage: string, description: string): Command =>
    withConnection(credentials.command(usage).description(description))

  withJson(add('list', 'all credentials, without their secrets')).action((options: Options) =>
    context.run(() => list(context, options)),
  )
  withJson(add('add <host>', 'store a credential; its secret is read from standard input'))
    .addOption(new Option('--kind <kind>', 'what the secret is').choices(['token', 'basic']).default('token'))
    .addOption(
      new Option('--use <use>', 'for cloning, or for pushing and pull requests')
        .choices(['read', 'publish'])
        .default('publish'),
    )
    .option('--username <name>', 'needed for basic')
    .option('--api-base-url <url>', 'where the host has GitHub’s API, unless it is github.com')
    .action((host: string, options: Options & NewCredential) =>
      context.run(() => store(context, host, options)),
    )
  add('remove <id>', 'remove a credential').action((id: string, options: Options) =>
    context.run(async () => {
      await connect(context, options).gitCredentials.delete(id)
      context.terminal.say(`${id} is removed`)
      return EXIT.ok
    }),
  )
}

async function list(context: Context, options: Options): Promise<number> {
  const found = await collect(connect(context, options).gitCredentials.list({ limit: 100 }))
  const rows = found.map(({ id, host, kind, use, username, lastUsedAt }) => [
    id,
    host,
    kind,
    use,
    username ?? '',
    lastUsedAt ?? 'never',
  ])
  print(context, found, {
    json: options.json,
    lines: () => table(['ID', 'HOST', 'KIND', 'USE', 'USER', 'LAST USED'], rows),
  })
  return EXIT.ok
}

async function store(context: Context, host: string, options: Options & NewCredential): Promise<number> {
  const client = connect(context, options)
  const { kind, use, username, apiBaseUrl } = options
  const secret = await readSecret(context.terminal, `${kind === 'basic' ? 'Password' : 'Token'} for ${host}`)
  const created = await client.gitCredentials.create({
    host,
    kind,
    use,
    secret,
    ...(username !== undefined && { username }),
    ...(apiBaseUrl !== undefined && { apiBaseUrl }),
  })
  print(context, created, { json: options.json, lines: () => [created.id] })
  return EXIT.ok
}
