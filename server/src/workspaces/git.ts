import { type ChildProcess, spawn } from 'node:child_process'

/**
 * Owns: every start of the git binary.
 * Invariants: no configuration but ours is read (none of the system, the user or the agent's `.git`), so no
 * hook, filter, fsmonitor, alias or credential helper can run; arguments never hold a credential; nothing of
 * the server's environment is passed on; output, time and the whole process group are bounded.
 * Leaves to others: which repositories and addresses may be spoken to (`remote.ts`).
 */

const BASE_CONFIG = [
  'core.hooksPath=/dev/null',
  'core.fsmonitor=false',
  'core.untrackedCache=false',
  'core.attributesFile=/dev/null',
  'core.excludesFile=/dev/null',
  'core.symlinks=true',
  'core.fileMode=true',
  'core.autocrlf=false',
  'core.safecrlf=false',
  'core.protectHFS=true',
  'core.protectNTFS=true',
  'core.quotePath=false',
  'core.askPass=',
  'core.compression=1',
  'core.bigFileThreshold=16m',
  'credential.helper=',
  'commit.gpgSign=false',
  'diff.ignoreSubmodules=all',
  'fetch.recurseSubmodules=no',
  'fetch.writeCommitGraph=false',
  'gc.auto=0',
  'maintenance.auto=false',
  'push.gpgSign=false',
  'push.recurseSubmodules=no',
  'safe.directory=*',
  'submodule.recurse=false',
].flatMap((setting) => ['-c', setting])

const BASE_ENVIRONMENT = {
  PATH: '/usr/local/bin:/usr/bin:/bin',
  HOME: '/nonexistent',
  LC_ALL: 'C',
  TZ: 'UTC',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_ATTR_NOSYSTEM: '1',
  GIT_TERMINAL_PROMPT: '0',
  GIT_LITERAL_PATHSPECS: '1',
  GIT_LFS_SKIP_SMUDGE: '1',
  GIT_OPTIONAL_LOCKS: '0',
  GIT_ALLOW_PROTOCOL: 'none',
  GIT_AUTHOR_NAME: 'AgentGate',
  GIT_AUTHOR_EMAIL: 'agentgate@localhost',
  GIT_COMMITTER_NAME: 'AgentGate',
  GIT_COMMITTER_EMAIL: 'agentgate@localhost',
}

export interface GitCall {
  gitDir?: string
  workTree?: string
  indexFile?: string
  /** `name=value` settings for this call only; they stand in argv, so never a secret. */
  config?: readonly string[]
  environment?: Readonly<Record<string, string>>
  /** Runs with no rights but this user's; its own are the server's. */
  user?: { uid: number; gid: number } | undefined
  input?: string | Uint8Array
  signal?: AbortSignal | undefined
  /** 120 s unless given. */
  timeoutMs?: number
  /** Bytes of standard output kept, 16 MB unless given; one more ends the call. */
  maxOutputBytes?: number
  /** Return what was read so far instead of failing when there is more output than that. */
  truncate?: boolean
}

export interface GitOutput {
  bytes: Buffer
  /** `bytes` as text without the last line end. */
  text: string
  truncated: boolean
}

/** What a command lists with `-z`. */
export const entries = (output: GitOutput): string[] => output.bytes.toString().split('\0').filter(Boolean)

/** The same for a command that reads with `-z`. */
export const zeroEnded = (paths: readonly string[]): string => paths.map((path) => `${path}\0`).join('')

/** Git ended badly, was too slow or said too much. Internal: callers turn it into a named reason. */
export class GitFailure extends Error {
  override readonly name = 'GitFailure'
  readonly kind: 'exit' | 'timeout' | 'flood' | 'missing'
  readonly exitCode: number | null
  readonly stderr: string
  readonly stdout: string
  constructor(
    kind: GitFailure['kind'],
    command: string,
    exitCode: number | null,
    stdout: string,
    stderr: string,
  ) {
    super(`git ${command}: ${kind}${exitCode === null ? '' : ` ${exitCode}`}: ${stderr.trim().slice(0, 500)}`)
    this.kind = kind
    this.exitCode = exitCode
    this.stdout = stdout
    this.stderr = stderr
  }
}

export type Git = (args: readonly string[], call?: GitCall) => Promise<GitOutput>

const STDERR_BYTES = 64 * 1024

/** Ends git and what it started: transports and pack readers live in the same process group. */
function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error // the group is already gone
  }
}

function environmentOf(call: GitCall): Record<string, string> {
  return {
    ...BASE_ENVIRONMENT,
    ...(call.gitDir === undefined ? {} : { GIT_DIR: call.gitDir }),
    ...(call.workTree === undefined ? {} : { GIT_WORK_TREE: call.workTree }),
    ...(call.indexFile === undefined ? {} : { GIT_INDEX_FILE: call.indexFile }),
    ...call.environment,
  }
}

/** A function that runs `binary` (a name on the usual path, or a path) under the rules above. */
export function createGit(binary: string): Git {
  return (args, call = {}) =>
    new Promise((resolve, reject) => {
      call.signal?.throwIfAborted()
      const config = (call.config ?? []).flatMap((setting) => ['-c', setting])
      const child = spawn(binary, [...BASE_CONFIG, ...config, ...args], {
        cwd: call.workTree ?? call.gitDir ?? '/',
        env: environmentOf(call),
        ...(call.user === undefined ? {} : { uid: call.user.uid, gid: call.user.gid }),
        detached: true,
        stdio: ['pipe', 'pipe', 'pipe'],
      })
      const limit = call.maxOutputBytes ?? 16 * 1024 * 1024
      const out: Buffer[] = []
      const err: Buffer[] = []
      let outBytes = 0
      let errBytes = 0
      let stopped: 'timeout' | 'flood' | 'aborted' | undefined

      const stop = (why: 'timeout' | 'flood' | 'aborted') => {
        stopped ??= why
        killGroup(child)
      }
      const timer = setTimeout(() => stop('timeout'), call.timeoutMs ?? 120_000)
      const onAbort = () => stop('aborted')
      call.signal?.addEventListener('abort', onAbort)
      const settle = () => {
        clearTimeout(timer)
        call.signal?.removeEventListener('abort', onAbort)
      }

      child.stdout.on('data', (chunk: Buffer) => {
        const room = limit - outBytes
        outBytes += chunk.length
        if (room > 0) out.push(chunk.length > room ? chunk.subarray(0, room) : chunk)
        if (outBytes > limit) stop('flood')
      })
      child.stderr.on('data', (chunk: Buffer) => {
        if (errBytes < STDERR_BYTES) err.push(chunk)
        errBytes += chunk.length
      })
      child.stdin.on('error', () => {}) // git may end without reading all of its input; its exit code tells
      child.stdin.end(call.input ?? '')

      const command = args[0] ?? ''
      child.on('error', (error: NodeJS.ErrnoException) => {
        settle()
        reject(new GitFailure('missing', command, null, '', `${binary} did not start: ${error.code ?? ''}`))
      })
      child.on('close', (code) => {
        settle()
        const bytes = Buffer.concat(out)
        const text = bytes.toString().replace(/\n$/, '')
        const stderr = Buffer.concat(err).toString()
        if (stopped === 'aborted') reject(call.signal?.reason)
        else if (stopped === 'flood' && call.truncate) resolve({ bytes, text, truncated: true })
        else if (stopped !== undefined) reject(new GitFailure(stopped, command, code, text, stderr))
        else if (code === 0) resolve({ bytes, text, truncated: false })
        else reject(new GitFailure('exit', command, code, text, stderr))
      })
    })
}
