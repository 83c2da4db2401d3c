import { EventEmitter } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { PassThrough, Readable } from 'node:stream'
import { onTestFinished } from 'vitest'
import { runCommandLine } from '../../src/cli/program.ts'
import type { Host } from '../../src/cli/terminal.ts'

/** A process as commands see it; signals are emitted on it. */
export class FakeHost extends EventEmitter {
  readonly stdout: PassThrough & { isTTY?: true }
  readonly stderr: PassThrough & { isTTY?: true }
  readonly stdin: Readable
  ppid = 1
  exits: (number | undefined)[] = []
  constructor({ isTTY = false, input = '' } = {}) {
    super()
    const seen = isTTY ? { isTTY: true as const } : {}
    this.stdout = Object.assign(new PassThrough(), seen)
    this.stderr = Object.assign(new PassThrough(), seen)
    this.stdin = Readable.from([input])
  }
  exit(code?: number): void {
    this.exits.push(code)
  }
  get out(): string {
    return String(this.stdout.read() ?? '')
  }
  get err(): string {
    return String(this.stderr.read() ?? '')
  }
}

// The parts of a process that commands use are there, with the types that they use them by.
export const asHost = (host: FakeHost): Host => host as unknown as Host

export interface Outcome {
  code: number
  out: string
  err: string
}

/** Runs one command line in this process. */
export async function command(
  argv: readonly string[],
  environment: Record<string, string>,
  options: { isTTY?: boolean; input?: string } = {},
): Promise<Outcome> {
  const host = new FakeHost(options)
  const code = await runCommandLine(argv, asHost(host), environment)
  return { code, out: host.out, err: host.err }
}

/** Where other users may pass through; goes with the test. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp('/var/tmp/agentgate-cli-')
  await chmod(folder, 0o711)
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}
