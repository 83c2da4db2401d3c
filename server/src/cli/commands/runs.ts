import type { Command } from 'commander'
import type { AgentGate, ListRunsParams, Run, RunStatus } from '../../../../sdk/typescript/src/index.ts'
import { type ConnectionOptions, connect, withConnection } from '../connection.ts'
import { type Context, type OutputOptions, print, withJson } from '../context.ts'
import { credits, seconds } from '../event-line.ts'
import { EXIT } from '../failure.ts'
import { LiveView } from '../live-view.ts'
import { plain, table } from '../terminal.ts'

type Options = ConnectionOptions & OutputOptions

export function addRuns(program: Command, context: Context): void {
  const runs = program.command('runs').description('look at runs, follow them, cancel them')
  const add = (usage: string, description: string): Command =>
    withJson(withConnection(runs.command(usage).description(description)))

  add('list', 'the newest runs')
    .option('--status <status>', 'only pending, running, succeeded, failed or canceled ones')
    .option('--limit <count>', 'how many, 1 to 100', '20')
    .action((options: Options & { status?: RunStatus; limit: string }) =>
      context.run(() => list(context, options)),
    )
  add('show <id>', 'one run as it stands').action((id: string, options: Options) =>
    context.run(async () => {
      show(context, await connect(context, options).runs.get(id), options)
      return EXIT.ok
    }),
  )
  add('watch <id>', 'follow a run to its end; exit code 0 only when it succeeds').action(
    (id: string, options: Options) =>
      context.run(() => watch(context, connect(context, options), { id, options })),
  )
  add('cancel <id>', 'ask a run to stop, and wait until it has').action((id: string, options: Options) =>
    context.run(() => cancel(context, id, options)),
  )
}

async function list(
  context: Context,
  { status, limit, ...options }: Options & { status?: RunStatus; limit: string },
): Promise<number> {
  const params: ListRunsParams = { limit: Number(limit), ...(status && { status }) }
  const { data } = await connect(context, options).runs.list(params)
  const rows = data.map((run) => [
    run.id,
    run.status,
    run.statusReason,
    run.agent.slug,
    run.createdAt,
    String(run.cost.credits),
    run.prUrl ?? '',
  ])
  print(context, data, {
    json: options.json,
    lines: () => table(['ID', 'STATUS', 'REASON', 'AGENT', 'CREATED', 'CREDITS', 'PULL REQUEST'], rows),
  })
  return EXIT.ok
}

function show(context: Context, run: Run, { json }: OutputOptions): void {
  const facts: [string, string | null | undefined][] = [
    ['run', run.id],
    ['work order', run.workOrderId],
    ['agent', run.agent.slug],
    ['status', `${run.status} (${run.statusReason})`],
    ['verification', run.verification],
    ['iterations', String(run.iterations)],
    ['pull request', run.prUrl],
    ['error', run.error && `${run.error.code}: ${run.error.message}`],
    ['hint', run.error?.hint],
    ['usage', `${run.usage.steps} steps, ${run.usage.toolCalls} tool calls`],
    ['tokens', `${run.usage.inputTokens} in, ${run.usage.outputTokens} out`],
    ['cost', `${credits(run.cost.credits)}${run.cost.estimated ? ' (estimated)' : ''}`],
    ['created', run.createdAt],
    ['duration', run.timing.durationMs === null ? null : seconds(run.timing.durationMs)],
  ]
  print(context, run, {
    json,
    lines: () => facts.flatMap(([name, fact]) => (fact ? [`${name.padEnd(14)}${plain(fact)}`] : [])),
  })
}

async function watch(
  context: Context,
  client: AgentGate,
  { id, options }: { id: string; options: OutputOptions },
): Promise<number> {
  using view = new LiveView(context.terminal, { json: options.json })
  for await (const event of client.runs.events(id, { follow: true })) view.show(event)
  const { status } = await client.runs.get(id)
  return status === 'succeeded' ? EXIT.ok : EXIT.failed
}

async function cancel(context: Context, id: string, options: Options): Promise<number> {
  const client = connect(context, options)
  const asked = await client.runs.cancel(id)
  const run = asked.state === 'canceled' ? asked : await client.runs.wait(id)
  show(context, run, options)
  return run.state === 'canceled' ? EXIT.ok : EXIT.failed
}
