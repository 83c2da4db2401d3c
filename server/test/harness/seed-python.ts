import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { type PythonBlock, pythonProgram } from './seed-code.ts'

/** Debian's own interpreter, which sees the packages that apt installs; another may come first on PATH. */
export const PYTHON = '/usr/bin/python3'

const MODULES = ['requests', 'flask'] as const

/** Why the printed Python cannot run here, if it cannot. */
export function lackingPython(): string | null {
  const packages = MODULES.filter((name) => {
    try {
      execFileSync(PYTHON, ['-c', `import ${name}`], { stdio: 'ignore' })
      return false
    } catch {
      return true
    }
  }).map((name) => `python3-${name}`)
  return packages.length === 0 ? null : `the printed Python needs apt-get install ${packages.join(' ')}`
}

export interface PythonResult {
  code: number | null
  stdout: string
  stderr: string
}

/** Runs the program around a block to its end. */
export async function runPython(
  block: PythonBlock,
  env: Record<string, string>,
  args: readonly string[] = [],
): Promise<PythonResult> {
  const { child, output } = startPython(block, env, args)
  await once(child, 'close')
  return { code: child.exitCode, ...output }
}

export interface PythonWebhook extends AsyncDisposable {
  url: string
  /** What the handler has printed so far. */
  printed(): string
}

/** Starts the printed Flask handler; it answers `POST /webhooks/agentgate` below `url`. */
export async function startPythonWebhook(env: Record<string, string>): Promise<PythonWebhook> {
  const { child, output } = startPython('Webhook Signature Verification', env, [])
  const closed = once(child, 'close')
  let port: string | undefined
  while (port === undefined) {
    port = /^Listening: (\d+)$/m.exec(output.stdout)?.[1]
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`the handler ended: ${output.stderr}`)
    if (port === undefined) await Promise.race([once(child.stdout, 'data'), closed])
  }
  return {
    url: `http://127.0.0.1:${port}`,
    printed: () => output.stdout,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL')
      await closed
    },
  }
}

function startPython(block: PythonBlock, env: Record<string, string>, args: readonly string[]) {
  const program = pythonProgram(block)
  if (program === undefined) throw new Error('the seed documents are not here')
  const child = spawn(PYTHON, ['-u', '-c', program, ...args], {
    env: { PATH: process.env.PATH, NO_PROXY: '*', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text
  })
  return { child, output }
}
