/**
 * The whole way of one work order on this machine: a git host with a broken project, a gateway on an embedded
 * PostgreSQL, a model, a receiver of webhooks, and a client. Everything is gone when it ends.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pino } from 'pino'
import { AgentGate, type CreateWorkOrderRequest, type Run } from '../sdk/typescript/src/index.ts'
import { type App, startApp } from '../server/src/app.ts'
import { credits } from '../server/src/cli/event-line.ts'
import type { LiveView } from '../server/src/cli/live-view.ts'
import { plain } from '../server/src/cli/terminal.ts'
import { type Config, type Environment, readConfig } from '../server/src/config.ts'
import type { Secret } from '../server/src/lib/secret.ts'
import { readPostmaster } from '../server/src/storage/embedded-process.ts'
import { brokenProject } from './broken-project.ts'
import { makeDemoFolder } from './demo-folder.ts'
import { startGitHost } from './git-host.ts'
import { startModelServer } from './model-server.ts'
import { repairScript } from './repair-script.ts'
import { startWebhookReceiver, type WebhookReceiver } from './webhook-receiver.ts'

export interface DemoOptions {
  /** A repository of the user's own, which a real model works on. */
  repository?: { url: string; prompt: string; token: Secret | null }
  /** The scripted model's second edit is wrong too. */
  wrong: boolean
  environment: Environment
  view: LiveView
  /** Lines that are not events. */
  tell: (line: string) => void
  signal: AbortSignal
}

/** What the work order is about, and how it is delivered. */
interface Task {
  order: CreateWorkOrderRequest
  /** `host:port` of the git host, with the token that publishes there. */
  publishing: { host: string; token: string; apiBaseUrl?: string } | null
  wantsPullRequest: boolean
}

const PROMPT = 'make the failing test pass'
const WRONG_ITERATIONS = 2
const SCRIPTED_MODEL = 'openai/scripted'
const WEBHOOK_WITHIN_MS = 15_000

/** Whether the run succeeded and everything around it was as promised. */
export async function runDemo(options: DemoOptions): Promise<boolean> {
  const closers: (() => Promise<unknown>)[] = []
  const opened = <T>(room: T, close: (room: T) => Promise<unknown>): T => {
    closers.push(() => close(room))
    return room
  }
  try {
    return await demonstrate(options, opened)
  } finally {
    for (const close of closers.reverse()) await close()
  }
}

type Opened = <T>(room: T, close: (room: T) => Promise<unknown>) => T

async function demonstrate(options: DemoOptions, opened: Opened): Promise<boolean> {
  const { tell, signal } = options
  const { dataDir } = opened(await makeDemoFolder(), ({ folder }) =>
    rm(folder, { recursive: true, force: true }),
  )
  let secret = ''
  const receiver = opened(await startWebhookReceiver(() => secret), (one) => one.close())
  const { task, settings } = await prepare(options, opened)
  const hosts = [receiver.url, ...(options.repository ? [] : [task.order.workspaceSource.repository])]
  const app = await startGateway(
    {
      ...readConfig(settings),
      host: '127.0.0.1',
      port: 0,
      databaseUrl: null,
      masterKey: null,
      publicUrl: null,
      dataDir,
      allowedPrivateHosts: hosts.map((url) => new URL(url).host),
    },
    { opened, mayGoWithoutJail: !options.repository && isScripted(settings), tell },
  )
  signal.throwIfAborted()
  const keys = app.firstSecrets
  if (keys === null) throw new Error('a new database has given out no keys')
  secret = keys.webhookSecret.reveal()
  const client = new AgentGate({ apiKey: keys.liveKey.reveal(), baseUrl: app.url })
  tell(`gateway      ${app.url}, embedded PostgreSQL, jail: ${app.jail}`)
  tell(`repository   ${plain(task.order.workspaceSource.repository)}`)
  tell(`work order   ${plain(task.order.taskPrompt)}\n`)
  const run = await submit(client, { ...task, order: { ...task.order, webhookUrl: receiver.url } }, options)
  signal.throwIfAborted()
  return report({ client, run, receiver, task }, tell)
}

const isScripted = (settings: Environment): boolean => settings['AGENTGATE_MODELS'] === SCRIPTED_MODEL

/** The task, and the environment that the gateway is configured with. */
async function prepare(options: DemoOptions, opened: Opened): Promise<{ task: Task; settings: Environment }> {
  const { repository, environment, wrong, tell } = options
  if (repository) return { task: ownTask(repository), settings: environment }
  const host = opened(await startGitHost(), (one) => one.close())
  const project = brokenProject(Math.random)
  const access = await host.createRepository({ owner: 'demo', name: project.name, files: project.files })
  const task: Task = {
    order: {
      taskPrompt: PROMPT,
      workspaceSource: { type: 'git', repository: access.url },
      ...(wrong && { maxIterations: WRONG_ITERATIONS }),
    },
    publishing: { host: new URL(access.url).host, token: access.token, apiBaseUrl: access.apiBaseUrl },
    wantsPullRequest: true,
  }
  const { models } = readConfig(environment)
  if (models.length > 0 && !wrong) {
    tell(`model        ${models.join(', ')}`)
    return { task, settings: environment }
  }
  const { repair } = project
  const script = repairScript(wrong ? { ...repair, right: repair.alsoWrong } : repair)
  const model = opened(await startModelServer({ script }), (one) => one.close())
  tell('model        scripted, over the wire protocol of OpenAI; its first edit is wrong')
  return { task, settings: scriptedSettings(model.url) }
}

/** A live key, a provider and a price, so that money really moves. */
const scriptedSettings = (baseUrl: string): Environment => ({
  OPENAI_API_KEY: 'sk-of-the-scripted-model',
  AGENTGATE_OPENAI_BASE_URL: baseUrl,
  AGENTGATE_MODELS: SCRIPTED_MODEL,
  AGENTGATE_PRICES: JSON.stringify({ [SCRIPTED_MODEL]: { input: 0.1, output: 0.4, cached: 0.01 } }),
})

function ownTask({ url, prompt, token }: NonNullable<DemoOptions['repository']>): Task {
  return {
    order: {
      taskPrompt: prompt,
      workspaceSource: { type: 'git', repository: url },
      ...(token === null && { delivery: { mode: 'none' as const } }),
    },
    publishing: token && { host: new URL(url).host, token: token.reveal() },
    wantsPullRequest: false,
  }
}

/** Our own script on our own project may run without a jail where there is none; nothing else may. */
async function startGateway(
  config: Config,
  {
    opened,
    mayGoWithoutJail,
    tell,
  }: { opened: Opened; mayGoWithoutJail: boolean; tell: (line: string) => void },
): Promise<App> {
  const start = (jail: Config['jail']): Promise<App> =>
    startApp(
      { ...config, jail },
      {
        log: pino({ level: 'fatal' }, pino.destination({ dest: 2, sync: true })),
        pause: async () => undefined,
        random: Math.random,
        lifetime: 'with-parent',
      },
    )
  const app = await start(config.jail)
  const sockets = (await readPostmaster(join(config.dataDir, 'postgresql/cluster')))?.socketDir
  if (sockets) opened(sockets, (path) => rm(path, { recursive: true, force: true }))
  const stop = async (one: App): Promise<void> => one[Symbol.asyncDispose]()
  if (app.jail !== 'unavailable' || !mayGoWithoutJail) return opened(app, stop)
  tell('jail         none works here (./agentgate doctor says why); the scripted agent runs without one')
  const { firstSecrets } = app
  await stop(app)
  return opened({ ...(await start('none')), firstSecrets }, stop)
}

/** Submits the order and shows its run to the end. */
async function submit(client: AgentGate, task: Task, { view, signal }: DemoOptions): Promise<Run> {
  const { publishing } = task
  if (publishing) {
    const { host, token, apiBaseUrl } = publishing
    await client.gitCredentials.create({
      host,
      kind: 'token',
      use: 'publish',
      secret: token,
      ...(apiBaseUrl !== undefined && { apiBaseUrl }),
    })
  }
  const { runId } = await client.workOrders.create(task.order)
  for await (const event of client.runs.events(runId, { follow: true }, { signal })) view.show(event)
  return client.runs.get(runId)
}

interface Ended {
  client: AgentGate
  run: Run
  receiver: WebhookReceiver
  task: Task
}

async function report(
  { client, run, receiver, task }: Ended,
  tell: (line: string) => void,
): Promise<boolean> {
  const webhook = await receiver.finalEvent(WEBHOOK_WITHIN_MS)
  const allVerified = receiver.received.every(({ verified }) => verified)
  tell('')
  tell(
    webhook
      ? `webhook      ${webhook.event.type} #${webhook.event.seq} received, signature ${allVerified ? 'verified' : 'WRONG'} (${receiver.received.length} in all)`
      : 'webhook      none came in time',
  )
  const { data: charges } = await client.credits.usage.list({ runId: run.id, type: 'deduction' })
  const charged = charges.reduce((sum, { amountCents }) => sum - amountCents, 0)
  const { totalCreditsCents } = await client.credits.get()
  tell(`charged      ${credits(charged)}; ${totalCreditsCents} are left`)
  if (run.prUrl) tell(`pull request ${plain(run.prUrl)}`)
  await showChanges(client, run, tell)
  if (run.error) tell(`failed       ${run.statusReason}: ${plain(run.error.message)}`)
  const isDelivered = !task.wantsPullRequest || run.prUrl !== null
  return run.status === 'succeeded' && isDelivered && webhook !== undefined && allVerified && charged > 0
}

async function showChanges(client: AgentGate, run: Run, tell: (line: string) => void): Promise<void> {
  const { data } = await client.runs.artifacts.list(run.id)
  if (!data.some(({ name }) => name === 'changes.diff')) return
  const diff = (await client.runs.artifacts.get(run.id, 'changes.diff')).text()
  tell('')
  for (const line of diff.trimEnd().split('\n')) tell(`  ${visible(line)}`)
}

/** A line of a diff keeps its indentation, and nothing that works on a terminal. */
const visible = (line: string): string => line.replaceAll(/(?!\t)[\p{Cc}\p{Cf}]/gu, '�')
