import type { Command } from 'commander'
import { readConfig } from '../../config.ts'
import type { Context } from '../context.ts'
import { EXIT, UsageError } from '../failure.ts'
import { LiveView } from '../live-view.ts'
import { watchStopSignals } from '../stop-signals.ts'

interface Options {
  repo?: string
  prompt?: string
  wrong?: true
  json?: true
}

export function addDemo(program: Command, context: Context): void {
  program
    .command('demo')
    .description('one work order from its prompt to a pull request, with everything on this machine')
    .option('--repo <url>', 'a repository of your own instead; needs the key of a model provider')
    .option('--prompt <text>', 'what to do there')
    .option('--wrong', 'the scripted model never finds the bug: see a run fail')
    .option('--json', 'print the events as JSON, one a line')
    .action((options: Options) => context.run(() => demo(context, options)))
}

async function demo(context: Context, options: Options): Promise<number> {
  const { terminal, environment, settings, host } = context
  const repository = repositoryOf(context, options)
  const stopping = new AbortController()
  const stop = watchStopSignals(host, { watchParent: settings.isUnderNpm })
  let code: number | undefined
  void stop.asked.then((asked) => {
    code = asked || EXIT.terminated
    stopping.abort()
  })
  const { runDemo } = await import('../../../../demo/demo.ts')
  using view = new LiveView(terminal, options)
  const startedAt = performance.now()
  const tell = (line: string): void => (options.json ? terminal.say(line) : view.note(line))
  try {
    const isGood = await runDemo({
      ...(repository && { repository }),
      wrong: options.wrong === true,
      environment,
      view,
      tell,
      signal: stopping.signal,
    })
    tell(`\n${isGood ? 'done' : 'failed'} after ${((performance.now() - startedAt) / 1000).toFixed(1)} s`)
    return code ?? (isGood ? EXIT.ok : EXIT.failed)
  } catch (error) {
    if (code === undefined) throw error
    return code
  } finally {
    stop.forget()
  }
}

/** Throws `UsageError` naming what is missing. */
function repositoryOf({ environment, settings }: Context, { repo, prompt, wrong }: Options) {
  if (repo === undefined && prompt === undefined) return undefined
  if (repo === undefined || prompt === undefined) throw new UsageError('--repo and --prompt go together.')
  if (wrong) throw new UsageError('--wrong is for the scripted model, --repo for a real one.')
  if (!URL.canParse(repo)) throw new UsageError(`--repo must be the URL of a repository, not "${repo}".`)
  if (readConfig(environment).models.length === 0) {
    throw new UsageError(
      'Your own repository needs a real model: set OPENAI_API_KEY or ANTHROPIC_API_KEY. GITHUB_TOKEN opens the pull request; without it the changes are only shown.',
    )
  }
  return { url: repo, prompt, token: settings.githubToken }
}
