import type { Command } from 'commander'
import { type Logger, pino } from 'pino'
import type { App } from '../../app.ts'
import { type Config, readConfig } from '../../config.ts'
import type { FirstSecrets } from '../../founding.ts'
import { VERSION } from '../../version.ts'
import type { Context, OutputOptions } from '../context.ts'
import { makeDataFolder } from '../data-folder.ts'
import { EXIT } from '../failure.ts'
import { findFirstKey, firstKeysPath, KEY_NAMES, writeFirstKeys } from '../first-keys.ts'
import { logLines } from '../log-lines.ts'
import { watchStopSignals } from '../stop-signals.ts'

export function addStart(program: Command, context: Context): void {
  program
    .command('start')
    .description('start the server; settings come from the environment (docs/config.md)')
    .option('--role <role>', 'all, api or worker; as AGENTGATE_ROLE')
    .option('--json', 'print one line of JSON when the server is ready')
    .option('--quiet', 'print nothing but the log')
    .action((options: StartOptions) => context.run(() => start(context, options)))
}

interface StartOptions extends OutputOptions {
  role?: string
}

async function start(context: Context, options: StartOptions): Promise<number> {
  const { role = context.environment['AGENTGATE_ROLE'] } = options
  const config = readConfig({ ...context.environment, AGENTGATE_ROLE: role })
  await makeDataFolder(config.dataDir)
  const stop = watchStopSignals(context.host, { watchParent: context.settings.isUnderNpm })
  let isStopping = false
  void stop.asked.then(() => {
    isStopping = true
  })
  const { startApp } = await import('../../app.ts')
  let secrets: FirstSecrets | undefined
  let app: App
  try {
    app = await startApp(config, {
      log: openLog(context, config, options),
      pause: async () => undefined,
      random: Math.random,
      lifetime: 'adoptable',
      isStopping: () => isStopping,
      onFirstSecrets: (made) => {
        secrets = made
      },
    })
  } catch (error) {
    // They are in the database by now, and no other start will show them.
    if (secrets) context.terminal.say(`The first keys are in ${writeFirstKeys(config.dataDir, secrets)}`)
    throw error
  }
  announce(context, { config, url: app.url, jail: app.jail, secrets, options })
  const code = await stop.asked
  const say = (line: string): void => (options.quiet ? undefined : context.terminal.say(line))
  say('stopping: work under way is handed back')
  if (await drain(app, config.drainMs)) {
    say('stopped')
    return code
  }
  context.terminal.say(
    `Not everything was handed back within ${config.drainMs / 1000} s; the next start goes on.`,
  )
  return EXIT.failed
}

/** One JSON object a line for programs; a person at a terminal reads sentences. */
function openLog({ terminal }: Context, { logLevel: level }: Config, { json }: OutputOptions): Logger {
  const isRead = terminal.streams.stderr.isTTY === true && !json
  return isRead
    ? pino({ level, base: null }, logLines(terminal))
    : pino({ level }, pino.destination({ dest: 2, sync: true }))
}

/** Whether everything was handed back and closed in time. */
async function drain(app: App, withinMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), withinMs)
  })
  const done = app[Symbol.asyncDispose]().then(() => true as const)
  return Promise.race([done, late]).finally(() => clearTimeout(timer))
}

interface Started {
  config: Config
  url: string
  jail: string
  secrets: FirstSecrets | undefined
  options: OutputOptions
}

/** Keys are shown to a person only; otherwise they would end in a log. */
function announce({ terminal }: Context, { config, url, jail, secrets, options }: Started): void {
  const shown = terminal.isInteractive && !options.json && !options.quiet
  const path = secrets && !shown ? writeFirstKeys(config.dataDir, secrets) : undefined
  if (options.json) {
    terminal.data(JSON.stringify({ url, dataDir: config.dataDir, jail, ...(path && { keys: path }) }))
    return
  }
  if (options.quiet) return
  if (config.role === 'worker') {
    terminal.data(`AgentGate ${VERSION}, a worker${url && `, health and metrics on ${url}`}`)
    return
  }
  terminal.data(`AgentGate ${VERSION} on ${terminal.paint('bold', url)}`)
  terminal.data(`  data folder  ${config.dataDir}`)
  terminal.data(`  jail         ${jail}`)
  if (path) terminal.data(`  first keys   ${path}`)
  if (secrets && shown) {
    terminal.data(`  ${KEY_NAMES.live}=${secrets.liveKey.reveal()}`)
    terminal.data(`  ${KEY_NAMES.test}=${secrets.testKey.reveal()}`)
    terminal.data(`  ${KEY_NAMES.webhook}=${secrets.webhookSecret.reveal()}`)
    terminal.data('  These are shown once. Keep them somewhere safe.')
  }
  terminal.data('Try it with the test key, which costs nothing:')
  terminal.data(
    `  ${curlLine(url, shown && secrets ? secrets.testKey.reveal() : keyFromFile(config.dataDir))}`,
  )
}

const curlLine = (url: string, key: string): string =>
  `curl -s ${url}/v1/runs -H "Authorization: Bearer ${key}" -H 'Content-Type: application/json' -H 'Prefer: wait=10' -d '{"agent":"scripted","input":"Say hello."}'`

/** What a shell reads the test key with. */
const keyFromFile = (dataDir: string): string =>
  findFirstKey(dataDir, 'test') === undefined
    ? '$AGENTGATE_TEST_API_KEY'
    : `$(sed -n 's/^${KEY_NAMES.test}=//p' '${firstKeysPath(dataDir).replaceAll("'", `'\\''`)}')`
