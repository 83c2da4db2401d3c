/**
 * Gateways as people run them: `agentgate start`, built, in a process of its own. One that is measured ends with
 * the bench, however that ends.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { findFirstKey } from '../server/src/cli/first-keys.ts'
import { type DedicatedConnection, openConnection } from '../server/src/storage/database.ts'
import { EMBEDDED_DATABASE, EMBEDDED_USER } from '../server/src/storage/embedded-cluster.ts'
import { PORT } from '../server/src/storage/embedded-process.ts'
import { type BenchFolder, findPostmaster, makeBenchFolder } from './bench-folder.ts'
import { type Inspector, openInspector } from './inspector.ts'

export type Settings = Readonly<Record<string, string>>

/** Limits that do not bind, so that the bench measures the gateway and not its rules. */
export const LIMITS = {
  AGENTGATE_MAX_CONCURRENT_RUNS: '100000',
  AGENTGATE_MAX_QUEUED_RUNS: '100000000',
  AGENTGATE_SLOTS: '1000',
  AGENTGATE_RATE_READS: '10000000',
  AGENTGATE_RATE_WRITES: '10000000',
  AGENTGATE_RATE_SUBMISSIONS: '10000000',
  AGENTGATE_RATE_CONTROL: '10000000',
  AGENTGATE_INITIAL_CREDITS: '1000000000',
} as const satisfies Settings

const PROGRAM = fileURLToPath(new URL('../scripts/agentgate.mjs', import.meta.url))
/** As `./agentgate` starts node. */
const LAUNCHED_WITH = ['--max-semi-space-size=64']
const PATIENCE_MS = 30_000
const OUTPUT_KEPT = 4_000

export interface Gateway extends AsyncDisposable {
  url: string
  pid: number
  /** From spawning it to its saying that it listens. */
  startMs: number
  /** What agents run in. */
  jail: string
  /** Looks inside it; only of a gateway that was started for that. */
  inspect(): Promise<Inspector>
}

/** A gateway with the PostgreSQL that it has started for itself. */
export interface OwnGateway extends Gateway {
  liveKey: string
  testKey: string
  postmasterPid: number
  /** A connection of the bench's own to the gateway's database. */
  connect(): Promise<DedicatedConnection>
}

export interface GatewayOptions {
  settings?: Settings
  profileDir?: string | null
  inspected?: boolean
}

/** Starts a gateway on an embedded PostgreSQL (fsync on) in a new folder; all of it goes when disposed of. */
export async function openGateway(options: GatewayOptions = {}): Promise<OwnGateway> {
  const folder = await makeBenchFolder()
  const end = async (): Promise<void> => folder[Symbol.asyncDispose]()
  try {
    const gateway = await startOwnGateway(folder, options)
    const stop = async (): Promise<void> => {
      await gateway[Symbol.asyncDispose]()
      await end()
    }
    return { ...gateway, [Symbol.asyncDispose]: stop }
  } catch (error) {
    await end()
    throw error
  }
}

/** The same in a folder that outlives it. */
export async function startOwnGateway(
  { dataDir }: BenchFolder,
  options: GatewayOptions = {},
): Promise<OwnGateway> {
  const gateway = await startGateway(dataDir, options)
  const { pid, folder } = await findPostmaster(dataDir)
  return {
    ...gateway,
    liveKey: firstKey(dataDir, 'live'),
    testKey: firstKey(dataDir, 'test'),
    postmasterPid: pid,
    connect: () =>
      openConnection({ host: folder, port: PORT, user: EMBEDDED_USER, database: EMBEDDED_DATABASE }),
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

export function firstKey(dataDir: string, mode: 'live' | 'test'): string {
  const key = findFirstKey(dataDir, mode)
  if (key === undefined) throw new Error(`The gateway of ${dataDir} has given out no ${mode} key.`)
  return key
}

/** A gateway process on whatever database its settings name. */
export async function startGateway(
  dataDir: string,
  { settings = {}, profileDir = null, inspected = false }: GatewayOptions = {},
): Promise<Gateway> {
  const flags = [
    ...(profileDir === null ? [] : ['--cpu-prof', '--cpu-prof-dir', profileDir]),
    ...(inspected ? ['--inspect=127.0.0.1:0'] : []),
  ]
  const spawnedAt = performance.now()
  const child = spawn(process.execPath, [...LAUNCHED_WITH, ...flags, PROGRAM, 'start', '--json', '--quiet'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      // As under npm: a gateway whose parent is gone stops.
      npm_lifecycle_event: 'bench',
      PORT: '0',
      LOG_LEVEL: 'warn',
      AGENTGATE_DATA_DIR: dataDir,
      ...LIMITS,
      ...settings,
    },
  })
  const said = keepOutput(child)
  const line = await firstLine(child)
  if (line === undefined) throw new Error(`The gateway ended before it was ready: ${said()}`)
  const startMs = performance.now() - spawnedAt
  const { url, jail }: { url: string; jail: string } = JSON.parse(line)
  const stop = (): Promise<void> => end(child)
  const inspect = async (): Promise<Inspector> =>
    openInspector(/ws:\/\/\S+/.exec(said())?.[0] ?? 'ws://not-inspected')
  return { url, jail, startMs, inspect, pid: child.pid ?? 0, [Symbol.asyncDispose]: stop }
}

/** The end of what it says, for when it fails. */
function keepOutput(child: ChildProcess): () => string {
  let kept = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    kept = `${kept}${text}`.slice(-OUTPUT_KEPT)
  })
  return () => kept
}

async function firstLine({ stdout }: ChildProcess): Promise<string | undefined> {
  if (stdout === null) return undefined
  const lines = createInterface({ input: stdout })
  const closed = once(lines, 'close').then(() => [undefined])
  const [line]: (string | undefined)[] = await Promise.race([once(lines, 'line'), closed])
  return line
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS)
  await exited
  clearTimeout(timer)
}
