import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { JailSlot } from '../jail/command.ts'
import { startSetupProxy } from '../jail/setup-proxy.ts'
import type { GuardedFetch } from '../outbound/guarded-fetch.ts'
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
  signal: AbortSignal
}

const SETUP_MS = 15 * 60_000
const OUTPUT_BYTES = 256 * 1024
const SHOWN_CHARACTERS = 2_000

/**
 * Installs what the repository depends on: the only phase with a way out, through a proxy that lets through an
 * allow-list of hosts, and without any secret. Throws `RunFails` workspace_failed.
 */
export async function runSetup(setup: Setup): Promise<void> {
  const { rules, commands, slot, tree, signal } = setup
  if (commands.length === 0 || rules.hosts.length === 0) return
  // A socket's path has to be short.
  await using folder = await temporaryFolder(join(setup.scratch, 's-'))
  const socketPath = join(folder.path, 'p')
  await using proxy = await startSetupProxy({
    socketPath,
    allowedHosts: rules.hosts,
    checkHost: rules.checkHost,
    log: rules.log,
    signal,
  })
  for (const command of commands) {
    const result = await slot.run({
      argv: ['/bin/sh', '-c', command],
      workspace: tree,
      env: { CI: 'true', ...rules.registries },
      network: { proxySocket: proxy.socketPath },
      timeoutMs: SETUP_MS,
      maxOutputBytes: OUTPUT_BYTES,
      signal,
    })
    signal.throwIfAborted()
    if (result.outcome === 'exited' && result.exitCode === 0) continue
    const how =
      result.outcome === 'exited' ? `exit code ${result.exitCode}` : result.outcome.replaceAll('_', ' ')
    throw new RunFails({
      reason: 'workspace_failed',
      stage: 'workspace',
      message: `The setup command "${command.slice(0, 200)}" failed (${how}).`,
      hint: 'Name the setup commands of this repository in gatePlan.setup, or the hosts they need in AGENTGATE_SETUP_HOSTS.',
      details: { output: result.output.slice(-SHOWN_CHARACTERS), refusedHosts: [...proxy.refused] },
    })
  }
}

async function temporaryFolder(prefix: string): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(prefix)
  await chmod(path, 0o711)
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}
