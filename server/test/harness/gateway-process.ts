import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { builtProgram } from '../../../scripts/build.mjs'
import type { ReadyLine } from '../crash/crash-entry.ts'

/** A gateway in a process of its own, which may end and start again. */
export class GatewayProcess {
  readonly #environment: Record<string, string>
  #child: ChildProcess | null = null
  url = ''
  /** Given out by the first start on a database. */
  liveKey: string | null = null

  constructor(environment: Record<string, string>) {
    this.#environment = environment
  }

  /** Of the life that it has, or had. */
  get pid(): number | undefined {
    return this.#child?.pid
  }

  async start(): Promise<void> {
    const entry = await builtProgram('server/test/crash/crash-entry.ts')
    const child = spawn(process.execPath, [entry], {
      env: this.#environment,
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#child = child
    for await (const line of createInterface({ input: child.stdout })) {
      const ready: ReadyLine = JSON.parse(line)
      this.url = ready.url
      this.liveKey ??= ready.liveKey
      return
    }
    throw new Error('The gateway ended before it was ready.')
  }

  /** Ends the process, in order or as a crash does. */
  async end(how: 'stop' | 'kill'): Promise<void> {
    const child = this.#child
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    if (how === 'kill') child.kill('SIGKILL')
    else child.stdin?.end()
    await gone
  }
}
