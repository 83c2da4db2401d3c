import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export interface BenchGateway extends AsyncDisposable {
  url: string
  liveKey: string
  testKey: string
  pid: number
  dataDir: string
  /** CPU of the gateway's process so far, in microseconds, and its resident memory, in bytes. */
  usage(): Promise<{ cpu: NodeJS.CpuUsage; rss: number }>
}

/** Limits that do not bind, so that the bench measures the gateway and not its rules. */
const UNLIMITED = {
  PORT: '0',
  LOG_LEVEL: 'warn',
  AGENTGATE_MAX_CONCURRENT_RUNS: '100000',
  AGENTGATE_SLOTS: '1000',
  AGENTGATE_RATE_READS: '10000000',
  AGENTGATE_RATE_WRITES: '10000000',
  AGENTGATE_RATE_SUBMISSIONS: '10000000',
  AGENTGATE_INITIAL_CREDITS: '100000000',
}

/** Starts a gateway on an embedded PostgreSQL (fsync on) in a new folder; all of it goes when disposed. */
export async function startBenchGateway(env: Record<string, string> = {}): Promise<BenchGateway> {
  const dataDir = await mkdtemp('/var/tmp/agentgate-bench-')
  await chmod(dataDir, 0o711)
  const child = spawn(
    process.execPath,
    [
      ...(process.env['BENCH_NODE_FLAGS']?.split(' ') ?? []),
      '--import',
      'tsx',
      fileURLToPath(new URL('serve.ts', import.meta.url)),
    ],
    {
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
      env: { ...process.env, ...UNLIMITED, AGENTGATE_DATA_DIR: join(dataDir, 'data'), ...env },
    },
  )
  const ready = await firstLine(child)
  const { url, liveKey, testKey }: { url: string; liveKey: string; testKey: string } = JSON.parse(ready)
  return {
    url,
    liveKey,
    testKey,
    dataDir,
    pid: child.pid ?? 0,
    async usage() {
      child.send('usage')
      const [answer]: [{ cpu: NodeJS.CpuUsage; rss: number }] = (await once(child, 'message')) as [never]
      return answer
    },
    async [Symbol.asyncDispose]() {
      child.disconnect()
      if (child.exitCode === null) await once(child, 'exit')
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

async function firstLine(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('the gateway has no output')
  for await (const line of createInterface({ input: child.stdout })) return line
  throw new Error('the gateway ended before it was ready')
}
