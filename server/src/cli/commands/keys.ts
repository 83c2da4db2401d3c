import type { Command } from 'commander'
import type { CreateKeyRequest } from '../../../../sdk/typescript/src/index.ts'
import { type ConnectionOptions, collect, connect, withConnection } from '../connection.ts'
import { type Context, type OutputOptions, print, withJson } from '../context.ts'
import { EXIT } from '../failure.ts'
import { table } from '../terminal.ts'

type Options = ConnectionOptions & OutputOptions

export function addKeys(program: Command, context: Context): void {
  const keys = program.command('keys').description('API keys of the organisation')
  const add = (usage: string, description: string): Command =>
    withConnection(keys.command(usage).description(description))

  withJson(add('list', 'all keys, without their secret part')).action((options: Options) =>
    context.run(() => list(context, options)),
  )
  withJson(add('create', 'a new key of the same mode; printed once'))
    .option('--name <name>', 'to tell it from others')
    .option('--scopes <scopes>', 'comma-separated, such as runs:read,runs:write; default: all')
    .option('--tenant <id>', 'bind it to one tenant')
    .option('--expires <time>', 'when it ends, as an ISO 8601 time')
    .action((options: Options & NewKey) => context.run(() => create(context, options)))
  add('revoke <id>', 'end a key').action((id: string, options: Options) =>
    context.run(async () => {
      await connect(context, options).keys.revoke(id)
      context.terminal.say(`${id} is revoked`)
      return EXIT.ok
    }),
  )
}

interface NewKey {
  name?: string
  scopes?: string
  tenant?: string
  expires?: string
}

async function list(context: Context, options: Options): Promise<number> {
  const found = await collect(connect(context, options).keys.list({ limit: 100 }))
  const rows = found.map((key) => [
    key.id,
    key.hint,
    key.mode,
    key.name ?? '',
    key.scopes.join(','),
    key.lastUsedAt ?? 'never',
    key.revokedAt === null ? 'active' : 'revoked',
  ])
  print(context, found, {
    json: options.json,
    lines: () => table(['ID', 'BEGINS', 'MODE', 'NAME', 'SCOPES', 'LAST USED', 'STATE'], rows),
  })
  return EXIT.ok
}

async function create(context: Context, options: Options & NewKey): Promise<number> {
  const { name, scopes, tenant, expires } = options
  const request: CreateKeyRequest = {
    ...(name !== undefined && { name }),
    ...(scopes !== undefined && { scopes: scopes.split(',').map((scope) => scope.trim()) }),
    ...(tenant !== undefined && { tenantId: tenant }),
    ...(expires !== undefined && { expiresAt: expires }),
  }
  const created = await connect(context, options).keys.create(request)
  print(context, created, { json: options.json, lines: () => [created.secret ?? ''] })
  if (!options.json) context.terminal.say(`${created.key.id}: the key above is shown once`)
  return EXIT.ok
}
