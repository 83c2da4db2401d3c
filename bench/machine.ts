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
  /** Median of a small insert by one caller, committed to disk: what every durable step costs at least. */
  commitMs: number
  /** Of the sources; `+` where they differ from it. */
  commit: string
}

const TRIED_COMMITS = 1_000

const run = promisify(execFile)

export async function describeMachine(): Promise<Machine> {
  const [cpu] = cpus()
  const facts = {
    cpu: cpu?.model ?? 'unknown',
    cores: cpus().length,
    memoryGib: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    ...(await tryPostgres()),
    commit: await readCommit(),
  }
  const { cores, memoryGib, kernel, node, postgresql, commitMs, commit } = facts
  const line = `${cores} × ${facts.cpu}, ${memoryGib} GiB, Linux ${kernel}, Node ${node}, PostgreSQL ${postgresql} (embedded, fsync on; a small commit takes ${commitMs} ms), commit ${commit}`
  return { line, ...facts }
}

async function tryPostgres(): Promise<{ postgresql: string; commitMs: number }> {
  await using server = await openBenchDatabase()
  await using db = await openConnection(server.url)
  const [row] = await db.query<{ version: string; fsync: string }>(
    "select split_part(current_setting('server_version'), ' ', 1) as version, current_setting('fsync') as fsync",
  )
  if (row?.fsync !== 'on') throw new Error('fsync is off; figures would be about nothing.')
  await db.query('create table commit_tried (n int primary key, said text not null)')
  const said = 'x'.repeat(300)
  const times: number[] = []
  for (let n = 0; n < TRIED_COMMITS; n++) {
    const since = performance.now()
    await db.query({ name: 'commit', text: 'insert into commit_tried (n, said) values ($1, $2)' }, [n, said])
    times.push(performance.now() - since)
  }
  times.sort((a, b) => a - b)
  return { postgresql: row.version, commitMs: Math.round((times[TRIED_COMMITS >> 1] ?? 0) * 100) / 100 }
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
