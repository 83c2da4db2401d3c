/** A host folder or file shown inside the jail. */
export interface JailMount {
  /** Absolute host path; must exist. Every parent folder must be traversable for the slot's uid. */
  source: string
  /** Absolute path inside the jail. */
  target: string
  readOnly: boolean
}

export interface JailLimits {
  /** Processes and threads alive at once. */
  processes: number
  /** Resident memory of the whole jail with a cgroup; data segment of each process without one. */
  memoryBytes: number
  /** Largest file a process may write. */
  fileBytes: number
  /** What the workspace and the other writable mounts may take on the disk, each; a file counts as 4 KiB at least. */
  diskBytes: number
  /** Open files of each process. */
  openFiles: number
  /** Size of each of `/tmp`, `/dev/shm` and the home folder; they live in memory and end with the command. */
  tmpBytes: number
}

export interface JailNetwork {
  /** Unix socket of an HTTP proxy, the only way out. Inside it is `http://127.0.0.1:3128`. */
  proxySocket: string
}

export interface JailedCommand {
  /** Program and arguments; a program without a slash is looked up on the jail's PATH. */
  argv: readonly string[]
  /** Host folder mounted writable at `/workspace`. */
  workspace: string
  mounts?: readonly JailMount[]
  /** Folder inside the jail; `/workspace` unless given. */
  cwd?: string
  /** Added to the synthetic PATH, HOME, USER, LANG, TERM, TMPDIR and PWD; nothing of the host enters. */
  env?: Readonly<Record<string, string>>
  timeoutMs: number
  /** Output kept: the first and the last half of this; the rest is counted and dropped. */
  maxOutputBytes: number
  limits?: Partial<JailLimits>
  network?: JailNetwork
  /** Standard input; empty unless given. */
  stdin?: string
  signal: AbortSignal
  /** Sees every chunk of output as it arrives, also what is dropped later. */
  onOutput?: (chunk: Uint8Array) => void
}

/** How a command ended. A jail never throws for what its command does. */
export type JailOutcome =
  | { outcome: 'exited'; exitCode: number }
  /** The command, or the last one of its shell, died of a signal (exit code 128 + its number). */
  | { outcome: 'signaled'; signal: string }
  | { outcome: 'timed_out' }
  /** `killed` unless it had not begun, or just came to its own end. */
  | { outcome: 'canceled'; killed: boolean }
  /** It wrote more than it may and was stopped; `reason` is a sentence. */
  | { outcome: 'disk_limit'; reason: string }
  /** The command never ran; `reason` is a sentence. */
  | { outcome: 'refused_to_start'; reason: string }

export type JailResult = JailOutcome & {
  /** Standard output and error in the order written, as storable UTF-8, at most `maxOutputBytes` and a mark. */
  output: string
  /** All bytes written, kept or not. */
  outputBytes: number
  truncated: boolean
  durationMs: number
}

/** The right to run one command at a time under one uid. */
export interface JailSlot {
  readonly index: number
  /** The uid and gid that files of the workspace must have; the server's own unless it is root. */
  readonly uid: number
  readonly gid: number
  /**
   * Runs one command and resolves when none of its processes is left.
   * A second command in the same slot before that is refused.
   */
  run(command: JailedCommand): Promise<JailResult>
  /** Gives a tree to the slot's uid; see `giveTree`. Does nothing unless the server is root. */
  own(path: string): Promise<void>
  /** Takes a tree back for the server. */
  disown(path: string): Promise<void>
  release(): void
}

export type LimitMechanism = 'cgroup2' | 'cgroup1' | 'systemd' | 'prlimit'

/** One thing the jail was seen to hold, or not to hold, when it was tried. */
export interface JailFinding {
  name: string
  holds: boolean
  /** What was seen, and what to do about it where it does not hold. */
  text: string
}

export interface JailReport {
  jail: 'bubblewrap' | 'none' | 'unavailable'
  limits: LimitMechanism
  /** `measured` while a command runs; `reserving_refused` where system calls that take space at once are refused too. */
  disk: 'measured' | 'reserving_refused'
  /** One sentence for the log and `doctor`. */
  summary: string
}

/** What the jail says about itself while it works. */
export interface JailLog {
  info(facts: object, message: string): void
  warn(facts: object, message: string): void
}
