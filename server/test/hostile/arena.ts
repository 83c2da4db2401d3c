import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type DestinationStream, pino } from 'pino'
import { expect } from 'vitest'
import type { HostedFile } from '../../../demo/git-host.ts'
import type { ModelScript } from '../../../demo/model-server.ts'
import type {
  AgentGate,
  CreateWorkOrderRequest,
  GatePlan,
  Run,
  RunEvent,
} from '../../../sdk/typescript/src/index.ts'
import type { Effects } from '../../src/app.ts'
import type { JsonObject } from '../../src/domain/json.ts'
import { processMark, startTicks } from '../../src/jail/process-mark.ts'
import { type Neighbourhood, startNeighbourhood } from '../harness/house.ts'

/** Why hostile work cannot be tried here; `null` where it can. Said once, so that a skip has a reason. */
export const lackingJail: string | null = reasonAgainst()
if (lackingJail !== null) process.stderr.write(`Hostile tests are skipped: ${lackingJail}.\n`)

function reasonAgainst(): string | null {
  // To root the set-up promises bubblewrap: where it is missing all the same, the tests fail.
  return process.getuid?.() === 0 ? null : 'they need root, so that each slot has a uid of its own'
}

export type ScriptStep = { calls: { tool: string; arguments: JsonObject }[] }
export type Steps = readonly ScriptStep[]

export const use = (tool: string, args: JsonObject = {}): ScriptStep => ({
  calls: [{ tool, arguments: args }],
})
export const shell = (command: string, timeoutSeconds = 20): ScriptStep =>
  use('run_command', { command, timeoutSeconds })
export const ANSWER: Steps = [use('write_file', { path: 'answer.txt', content: 'right\n' })]

/** A plan of one gate that runs a command. */
export const gateOf = (run: string, more: object = {}): GatePlan => ({
  gates: [{ name: 'check', level: 'L1', check: { type: 'command', run }, ...more }],
})
export const ANSWERED = gateOf('grep -q right answer.txt')

/** What the gateway shows of a run that is over. */
export interface Seen {
  run: Run
  events: RunEvent[]
  artifacts: Map<string, string>
  /** What each tool call came back with, whole, in order. */
  outcomes: { ok: boolean; code?: string; content: string }[]
  /** Everything above as one text. */
  text: string
  /** Content of a file on the delivered branch; nothing where there is none. */
  delivered(path: string): Promise<string | undefined>
  deliveredPaths(): Promise<string[]>
}

export interface Wish {
  /** A URL; else a repository is made of `files`. */
  repository?: string
  files?: Readonly<Record<string, HostedFile>>
  steps?: Steps
  order?: Partial<CreateWorkOrderRequest>
  /** Asks the scripted model instead of following `steps`. */
  live?: boolean
  /** The workspace must still be there, because the run is. */
  keeps?: boolean
}

export interface Arena extends AsyncDisposable {
  here: Neighbourhood
  /** Where workspaces, mirrors and scratch folders are. */
  root: string
  /** Everything the server has logged, one JSON object a line. */
  log(): string
  /** A repository on the host, public, whose URL is given. */
  repository(files: Readonly<Record<string, HostedFile>>): Promise<string>
  /** A repository whose only commit is what `git fast-import` makes of this stream. */
  imported(stream: string | Buffer): Promise<string>
  submit(wish: Wish): Promise<string>
  see(runId: string, live?: boolean): Promise<Seen>
  /** Submits an order, waits for its end and makes sure that nothing of it remains. */
  try(wish: Wish): Promise<Seen>
  expectNoRemains(): Promise<void>
}

const WAIT_MS = 50_000

/** Two hundred uids of this test process: a neighbour that tests beside it uses others. */
const OWN_UIDS = 60_600 + 200 * (Number(process.env['VITEST_POOL_ID']) || 0)
const ARENA_UID = OWN_UIDS
export const WORLD_UID = OWN_UIDS + 100

export async function startArena(
  env: Record<string, string> = {},
  script: ModelScript = [],
  effects: Partial<Effects> = {},
): Promise<Arena> {
  const dataDir = await mkdtemp('/var/tmp/agentgate-hostile-')
  await chmod(dataDir, 0o711)
  const lines: string[] = []
  const destination: DestinationStream = { write: (line) => void lines.push(line) }
  const here = await startNeighbourhood(script, {
    env: {
      AGENTGATE_DATA_DIR: dataDir,
      AGENTGATE_ALLOWED_PRIVATE_HOSTS: '127.0.0.0/8',
      AGENTGATE_JAIL_SLOTS: '4',
      AGENTGATE_JAIL_UID: String(ARENA_UID),
      ...env,
    },
    effects: {
      log: pino({ level: 'trace' }, destination),
      modelRetry: { firstMs: 10, factor: 1, maxMs: 10 },
      ...effects,
    },
  })
  const { gate, host } = here
  const root = join(dataDir, 'work')
  const clientOf = (live: boolean | undefined): AgentGate => (live ? gate.client : gate.testClient)
  let repositories = 0
  const repository: Arena['repository'] = async (files) =>
    (await host.createRepository({ owner: 'acme', name: `r${++repositories}`, files })).url
  const submit: Arena['submit'] = async ({
    files = { 'README.md': '# a project\n' },
    steps = [],
    ...wish
  }) => {
    const created = await clientOf(wish.live).workOrders.create({
      taskPrompt: 'Do what the script says.',
      workspaceSource: { type: 'git', repository: wish.repository ?? (await repository(files)) },
      maxIterations: 1,
      ...(wish.live ? {} : { test: { script: { steps: [...steps, use('finish', { summary: 'Done.' })] } } }),
      ...wish.order,
    })
    return created.runId
  }
  const see: Arena['see'] = async (runId, live) => {
    const client = clientOf(live)
    const run = await client.runs.wait(runId, { timeout: WAIT_MS })
    const events: RunEvent[] = []
    for await (const event of client.runs.events(runId, { limit: 100 })) events.push(event)
    const artifacts = new Map<string, string>()
    for await (const { name } of client.runs.artifacts.list(runId))
      artifacts.set(name, (await client.runs.artifacts.get(runId, name)).text())
    const transcript = (artifacts.get('transcript.jsonl') ?? '').split('\n').filter(Boolean)
    const outcomes = transcript.map((line) => JSON.parse(line)).filter(({ kind }) => kind === 'tool')
    const branch = String(run.delivery?.branch ?? '')
    const at = async (args: string[]): Promise<string | undefined> => {
      const remote = await testRemoteWith(root, branch)
      return remote === undefined ? undefined : gitIn(remote, args).catch(() => undefined)
    }
    return {
      run,
      events,
      artifacts,
      outcomes,
      text: JSON.stringify([run, events, [...artifacts]]),
      delivered: (path) => at(['cat-file', 'blob', `refs/heads/${branch}:${path}`]),
      deliveredPaths: async () =>
        ((await at(['ls-tree', '-r', '-z', '--name-only', `refs/heads/${branch}`])) ?? '')
          .split('\0')
          .filter(Boolean),
    }
  }
  const expectNoRemains: Arena['expectNoRemains'] = () => expectClean({ here, root, dataDir })
  return {
    here,
    root,
    log: () => lines.join(''),
    repository,
    async imported(stream) {
      const name = `r${++repositories}`
      const { url } = await host.createRepository({ owner: 'acme', name })
      const { folder } = host.repository(`acme/${name}`)
      const importing = promisify(execFile)('git', ['--git-dir', folder, 'fast-import', '--quiet'])
      importing.child.stdin?.end(stream)
      await importing
      return url
    },
    submit,
    see,
    async try(wish) {
      const seen = await see(await submit(wish), wish.live)
      await expectNoRemains()
      return seen
    },
    expectNoRemains,
    async [Symbol.asyncDispose]() {
      await here[Symbol.asyncDispose]()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

/** The bare repository that a test run delivered its branch to; it has the run's id in its name. */
export async function testRemoteWith(root: string, branch: string): Promise<string | undefined> {
  const folder = join(root, 'git', 'test-remotes')
  for (const name of await leftIn(folder)) {
    const remote = join(folder, name)
    if (await gitIn(remote, ['rev-parse', '--verify', `refs/heads/${branch}`]).catch(() => undefined))
      return remote
  }
  return undefined
}

export async function gitIn(folder: string, args: readonly string[]): Promise<string> {
  const options = { maxBuffer: 256 * 2 ** 20, env: { PATH: '/usr/bin:/bin', GIT_CONFIG_NOSYSTEM: '1' } }
  const words = ['-c', 'safe.directory=*', '--git-dir', folder, ...args]
  return (await promisify(execFile)('git', words, options)).stdout
}

interface Servers {
  /** Also of those that are dead. */
  pids: readonly number[]
  /** Of their jails; up to a hundred from here on are their own. */
  firstUid: number
}

const HERE: Servers = { pids: [process.pid], firstUid: ARENA_UID }

/** Processes of these servers' jails: they are in one of their control groups, or have a uid of their slots. */
export function jailProcesses({ pids: servers, firstUid }: Servers = HERE): string[] {
  return readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid) || startTicks(Number(pid)) === undefined) return []
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
      // Killed, and only waiting for the kernel or its parent.
      if (command === '') return []
      const group = readFileSync(`/proc/${pid}/cgroup`, 'utf8')
      if (servers.some((server) => group.includes(`agentgate-${server}-`))) return [`${pid} ${command}`]
      const status = readFileSync(`/proc/${pid}/status`, 'utf8')
      const parent = Number(/^PPid:\s+(\d+)/m.exec(status)?.[1])
      // The worker's own git, which it has started itself, checks out as the user that the agent is to run as.
      if (servers.includes(parent) && command.startsWith('git -c core.hooksPath=/dev/null ')) return []
      const uid = Number(/^Uid:\s+(\d+)/m.exec(status)?.[1])
      // Whoever else has these uids, such as the same tests of another checkout, has groups of its own.
      const isJailed = uid >= firstUid && uid < firstUid + 100 && !/agentgate-\d+-/.test(group)
      return isJailed ? [`${pid} ${command}`] : []
    } catch {
      return []
    }
  })
}

interface Ground {
  here: Neighbourhood
  root: string
  dataDir: string
}

/** Once no run is under way there is no process, mount, lock, scratch folder, workspace or reservation of any. */
async function expectClean({ here, root, dataDir }: Ground): Promise<void> {
  const { gate } = here
  // The end of a run is announced before its worker has tidied up.
  await expect.poll(() => readdir(join(root, 'git', 'runs')).catch(() => []), { timeout: 10_000 }).toEqual([])
  await expect.poll(() => leftIn(join(root, 'scratch', processMark())), { timeout: 10_000 }).toEqual([])
  expect(jailProcesses()).toEqual([])
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(dataDir)
  expect(locksIn(root)).toEqual([])
  for (const client of [gate.client, gate.testClient])
    expect((await client.credits.get()).reservedCreditsCents).toBe(0)
}

const leftIn = (folder: string): Promise<string[]> => readdir(folder).catch(() => [])

function locksIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter(({ name }) => name.endsWith('.lock') || name === 'lock')
    .map(({ parentPath, name }) => join(parentPath, name))
}
