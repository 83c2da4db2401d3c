import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { builtProgram } from '../../../scripts/build.mjs'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { joinEmbeddedPostgres } from '../../src/storage/embedded-guest.ts'
import type { CrashPlan, ReadyLine } from './crash-entry.ts'

const ENTRY = 'server/test/crash/crash-entry.ts'

export type Role = 'all' | 'api' | 'worker'

/** One process of the house; it may die and come back under the same name. */
export interface Member {
  name: string
  role: Role
  child: ChildProcess
  /** Fulfils when the process is gone, with the moment at which that was seen. */
  gone: Promise<number>
}

export interface CrashWorldOptions {
  /** `single`: one process that does all. `pair`: one that takes orders, and two that work. */
  topology: 'single' | 'pair'
  leaseSeconds: number
}

/** Real processes on a real embedded PostgreSQL, which outlives whatever is killed. */
export class CrashWorld {
  readonly members: Member[] = []
  readonly #options: CrashWorldOptions
  readonly #dataDir: string
  readonly #complaints: string[] = []
  #database: Database | null = null
  #url = ''
  #liveKey = ''
  #port = 0

  private constructor(dataDir: string, options: CrashWorldOptions) {
    this.#dataDir = dataDir
    this.#options = options
  }

  static async open(options: CrashWorldOptions): Promise<CrashWorld> {
    const dataDir = await mkdtemp('/var/tmp/agentgate-crash-')
    await chmod(dataDir, 0o711)
    const world = new CrashWorld(dataDir, options)
    const isPair = options.topology === 'pair'
    await world.start(isPair ? 'api' : 'gateway', isPair ? 'api' : 'all')
    if (isPair) for (const name of ['worker 1', 'worker 2']) await world.start(name, 'worker')
    return world
  }

  get url(): string {
    return this.#url
  }

  get liveKey(): string {
    return this.#liveKey
  }

  get complaints(): readonly string[] {
    return this.#complaints
  }

  member(name: string): Member {
    const found = this.members.find((each) => each.name === name)
    if (found === undefined) throw new Error(`there is no ${name}`)
    return found
  }

  /** Starts a process under this name, in place of the one that died; fulfils when it is ready. */
  async start(name: string, role: Role, plan: CrashPlan = {}): Promise<void> {
    const child = spawn(process.execPath, [await builtProgram(ENTRY), JSON.stringify(plan)], {
      env: this.#environment(role),
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    const errors: string[] = []
    child.stderr?.on('data', (chunk: Buffer) => errors.push(chunk.toString()))
    const gone = once(child, 'exit').then(() => Date.now())
    const member = { name, role, child, gone }
    const at = this.members.findIndex((each) => each.name === name)
    this.members.splice(at < 0 ? this.members.length : at, at < 0 ? 0 : 1, member)
    void gone.then(() => {
      if (child.exitCode !== null && child.exitCode !== 0) {
        this.#complaints.push(`${name} ended with ${child.exitCode}: ${errors.join('').slice(-2_000)}`)
      }
    })
    const ready = await Promise.race([readLine(child), gone.then(() => null)])
    if (ready === null) return
    if (ready.url !== '') {
      this.#url = ready.url
      this.#port = Number(new URL(ready.url).port)
    }
    this.#liveKey = ready.liveKey ?? this.#liveKey
  }

  #environment(role: Role): Record<string, string> {
    const { leaseSeconds } = this.#options
    return {
      PATH: process.env['PATH'] ?? '',
      HOME: process.env['HOME'] ?? '/',
      LOG_LEVEL: process.env['AGENTGATE_TEST_LOG'] || 'fatal',
      AGENTGATE_ROLE: role,
      AGENTGATE_DATA_DIR: this.#dataDir,
      ...(role === 'worker' ? {} : { PORT: String(this.#port) }),
      AGENTGATE_LEASE_SECONDS: String(leaseSeconds),
      AGENTGATE_JAIL: 'none',
      AGENTGATE_JAIL_SLOTS: '1',
      AGENTGATE_MAX_CONCURRENT_RUNS: '20',
      AGENTGATE_ALLOWED_PRIVATE_HOSTS: '127.0.0.0/8',
      AGENTGATE_INITIAL_CREDITS: '10000000',
      AGENTGATE_RATE_READS: '10000000',
      AGENTGATE_RATE_WRITES: '10000000',
      AGENTGATE_RATE_SUBMISSIONS: '10000000',
    }
  }

  /** A way to the database of one's own; waits for a server that is coming back. */
  async database(): Promise<Database> {
    for (let attempt = 1; ; attempt++) {
      try {
        this.#database ??= await openDatabase(await joinEmbeddedPostgres(join(this.#dataDir, 'postgresql')), {
          maxReaders: 3,
          statementTimeoutMs: 30_000,
        })
        await this.#database.query('select 1 as one')
        return this.#database
      } catch (error) {
        if (attempt === 300) throw error
        await sleep(100)
      }
    }
  }

  async postmasterPid(): Promise<number> {
    const [row] = await (await this.database()).query<{ pid: number }>(
      "select split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int as pid",
    )
    if (row === undefined) throw new Error('the server has no pid file')
    return row.pid
  }

  /** The backends of writers: those whose last statement was a commit. */
  async writerBackends(): Promise<number[]> {
    const rows = await (await this.database()).query<{ pid: number }>(
      `select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()
        and query like 'with i as materialized%'`,
    )
    return rows.map(({ pid }) => pid)
  }

  /** Stops everything in order, the database last, and removes the folder. */
  async close(): Promise<void> {
    await this.#database?.close()
    const [supervisor, ...others] = this.members
    for (const member of [...others, ...(supervisor ? [supervisor] : [])]) {
      if (member.child.exitCode !== null || member.child.signalCode !== null) continue
      member.child.kill('SIGCONT')
      member.child.stdin?.end()
      const forced = setTimeout(() => member.child.kill('SIGKILL'), 20_000)
      await member.gone
      clearTimeout(forced)
    }
    await rm(this.#dataDir, { recursive: true, force: true })
  }
}

async function readLine(child: ChildProcess): Promise<ReadyLine | null> {
  if (child.stdout === null) return null
  for await (const line of createInterface({ input: child.stdout })) return JSON.parse(line)
  return null
}
