import type { Command } from 'commander'
import type { CreateGrantRequest, CreditTransaction } from '../../../../sdk/typescript/src/index.ts'
import { type ConnectionOptions, connect, withConnection } from '../connection.ts'
import { type Context, type OutputOptions, print, withJson } from '../context.ts'
import { EXIT } from '../failure.ts'
import { plain, table } from '../terminal.ts'

type Options = ConnectionOptions & OutputOptions

export function addCredits(program: Command, context: Context): void {
  const credits = program.command('credits').description('what there is to spend, and what was spent')
  const add = (usage: string, description: string): Command =>
    withJson(withConnection(credits.command(usage).description(description)))

  add('show', 'the balance of the account').action((options: Options) =>
    context.run(() => show(context, options)),
  )
  add('usage', 'the newest transactions')
    .option('--type <type>', 'only deduction, purchase, refund or grant')
    .option('--run <id>', 'only what this run cost')
    .option('--limit <count>', 'how many, 1 to 100', '20')
    .action((options: Options & Narrowing) => context.run(() => usage(context, options)))
  add('grant <credits>', 'add credits; needs a key of an administrator')
    .option('--purchase', 'as purchased credits, which are spent after the included ones')
    .option('--expires <time>', 'when what is left is taken back, as an ISO 8601 time')
    .option('--reason <text>', 'what it is for')
    .action((amount: string, options: Options & NewGrant) =>
      context.run(() => grant(context, Number(amount), options)),
    )
}

interface Narrowing {
  type?: CreditTransaction['type']
  run?: string
  limit: string
}

interface NewGrant {
  purchase?: true
  expires?: string
  reason?: string
}

async function show(context: Context, options: Options): Promise<number> {
  const balance = await connect(context, options).credits.get()
  const facts: [string, string | number][] = [
    ['included', balance.includedCreditsCents],
    ['purchased', balance.purchasedCreditsCents],
    ['total', balance.totalCreditsCents],
    ['reserved', balance.reservedCreditsCents],
    ['cycle', `${balance.billingCycleStart} to ${balance.billingCycleEnd}`],
  ]
  print(context, balance, {
    json: options.json,
    lines: () => facts.map(([name, fact]) => `${name.padEnd(14)}${fact}`),
  })
  return EXIT.ok
}

async function usage(context: Context, options: Options & Narrowing): Promise<number> {
  const { type, run, limit } = options
  const params = { limit: Number(limit), ...(type && { type }), ...(run && { runId: run }) }
  const { data } = await connect(context, options).credits.usage.list(params)
  const rows = data.map((entry) => [
    entry.createdAt,
    entry.type,
    String(entry.amountCents),
    entry.runId ?? '',
    plain(entry.description),
  ])
  print(context, data, {
    json: options.json,
    lines: () => table(['BOOKED', 'TYPE', 'CREDITS', 'RUN', 'DESCRIPTION'], rows),
  })
  return EXIT.ok
}

async function grant(context: Context, amount: number, options: Options & NewGrant): Promise<number> {
  const { purchase, expires, reason } = options
  const request: CreateGrantRequest = {
    amountCents: amount,
    ...(purchase && { type: 'purchase' as const }),
    ...(expires !== undefined && { expiresAt: expires }),
    ...(reason !== undefined && { reason }),
  }
  const booked = await connect(context, options).credits.grants.create(request)
  print(context, booked, { json: options.json, lines: () => [booked.id] })
  if (!options.json) context.terminal.say(`${booked.amountCents} credits were added`)
  return EXIT.ok
}
