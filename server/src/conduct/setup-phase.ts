import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { SetupSummary } from '../domain/event.ts'
import type { Stage } from '../domain/lifecycle.ts'
import { plainText } from '../gates/plain-text.ts'
import type { JailResult, JailSlot } from '../jail/command.ts'
import { type SetupProxy, startSetupProxy } from '../jail/setup-proxy.ts'
import type { GuardedFetch } from '../outbound/guarded-fetch.ts'
import type { Clean } from './clean-json.ts'
import { RunFails } from './run-fails.ts'

export interface SetupRules {
  /** Hosts that may be reached; none turns the phase off. */
  hosts: readonly string[]
  checkHost: GuardedFetch['checkHost']
  /** Where package managers look instead of their own registries, as environment variables. */
  registries: Readonly<Record<string, string>>
  log: {
    info(facts: object, sentence: string): void
    warn(facts: object, sentence: string): void
    error(facts: object, sentence: string): void
  }
}

export interface Setup {
  rules: SetupRules
  commands: readonly string[]
  slot: JailSlot
  /** Host folder that the commands work in. */
  tree: string
  /** A short folder for the proxy's socket, which every slot's uid can enter. */
  scratch: string
  /** The part of the run that needs what is installed. */
  stage: Stage
  clean: Clean
  /** Gets all that the commands printed, also when one of them failed. */
  keepLog: (text: string) => Promise<void>
  signal: AbortSignal
}

const SETUP_MS = 15 * 60_000
const OUTPUT_BYTES = 256 * 1024
const SHOWN_CHARACTERS = 2_000

/**
 * Installs what the repository depends on: the only phase with a way out, through a proxy that lets through an
 * allow-list of hosts, and without any secret. Throws `RunFails` workspace_failed.
 */
export async function runSetup(setup: Setup): Promise<SetupSummary[]> {
  const { rules, commands, scratch, signal, keepLog } = setup
  if (commands.length === 0 || rules.hosts.length === 0) return []
  // A socket's path has to be short.
  await using folder = await temporaryFolder(join(scratch, 's-'))
  await using proxy = await startSetupProxy({
    socketPath: join(folder.path, 'p'),
    allowedHosts: rules.hosts,
    checkHost: rules.checkHost,
    log: rules.log,
    signal,
  })
  const done: SetupSummary[] = []
  let log = ''
  try {
    for (const command of commands) {
      const result = await runCommand(setup, proxy, command)
      signal.throwIfAborted()
      const output = setup.clean(plainText(result.output))
      log += `$ ${setup.clean(command)}\n${output}\n`
      if (result.outcome !== 'exited' || result.exitCode !== 0)
        throw failureOf(setup, proxy, { command, result, output })
      done.push({ command: setup.clean(command), durationMs: result.durationMs })
    }
  } finally {
    if (log !== '') await keepLog(log)
  }
  return done
}

const runCommand = (
  { rules, slot, tree, signal }: Setup,
  proxy: SetupProxy,
  command: string,
): Promise<JailResult> =>
  slot.run({
    argv: ['/bin/sh', '-c', command],
    workspace: tree,
    env: { CI: 'true', NO_COLOR: '1', ...rules.registries },
    network: { proxySocket: proxy.socketPath },
    timeoutMs: SETUP_MS,
    maxOutputBytes: OUTPUT_BYTES,
    signal,
  })

interface FailedCommand {
  command: string
  result: JailResult
  output: string
}

function failureOf(
  { stage, clean }: Setup,
  proxy: SetupProxy,
  { command, result, output }: FailedCommand,
): RunFails {
  const how =
    result.outcome === 'exited' ? `exit code ${result.exitCode}` : result.outcome.replaceAll('_', ' ')
  return new RunFails({
    reason: 'workspace_failed',
    stage,
    message: `The setup command "${clean(command).slice(0, 200)}" failed (${how}).`,
    hint: 'Name the setup commands of this repository in gatePlan.setup, or the hosts they need in AGENTGATE_SETUP_HOSTS.',
    details: { output: output.slice(-SHOWN_CHARACTERS), refusedHosts: [...proxy.refused] },
  })
}

async function temporaryFolder(prefix: string): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(prefix)
  await chmod(path, 0o711)
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}
