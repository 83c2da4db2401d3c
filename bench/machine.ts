import { execFile } from 'node:child_process'
import { cpus, release, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { openConnection } from '../server/src/storage/database.ts'
import { openBenchDatabase } from './database.ts'

/** What figures mean nothing without. */
export interface Machine {
  line: string
  cpu: string
  cores: number
  memoryGib: number
  kernel: string
  node: string
  postgresql: string
  /** Of the sources; `+` where they differ from it. */
  commit: string
}

const run = promisify(execFile)

export async function describeMachine(): Promise<Machine> {
  const [cpu] = cpus()
  const facts = {
    cpu: cpu?.model ?? 'unknown',
    cores: cpus().length,
    memoryGib: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    postgresql: await readPostgresVersion(),
    commit: await readCommit(),
  }
  const { cores, memoryGib, kernel, node, postgresql, commit } = facts
  const line = `${cores} × ${facts.cpu}, ${memoryGib} GiB, Linux ${kernel}, Node ${node}, PostgreSQL ${postgresql} (embedded, fsync on), commit ${commit}`
  return { line, ...facts }
}

async function readPostgresVersion(): Promise<string> {
  await using server = await openBenchDatabase()
  await using db = await openConnection(server.url)
  const [row] = await db.query<{ version: string; fsync: string }>(
    "select split_part(current_setting('server_version'), ' ', 1) as version, current_setting('fsync') as fsync",
  )
  if (row?.fsync !== 'on') throw new Error('fsync is off; figures would be about nothing.')
  return row.version
}

async function readCommit(): Promise<string> {
  const git = async (...args: string[]): Promise<string> => {
    const cwd = fileURLToPath(new URL('..', import.meta.url))
    return (await run('git', ['-c', 'safe.directory=*', ...args], { cwd })).stdout.trim()
  }
  try {
    const changed = await git(
      'status',
      '--porcelain',
      '--untracked-files=no',
      '--',
      'server',
      'sdk',
      'scripts',
    )
    return `${await git('rev-parse', '--short=12', 'HEAD')}${changed === '' ? '' : '+'}`
  } catch {
    return 'unknown'
  }
}
