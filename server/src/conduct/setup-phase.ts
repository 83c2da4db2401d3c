import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { SetupSummary } from '../domain/event.ts'
import type { RunFacts } from '../domain/facts.ts'
import type { Stage } from '../domain/lifecycle.ts'
import { plainText } from '../gates/plain-text.ts'
import type { JailedCommand, JailMount, JailResult, JailSlot } from '../jail/command.ts'
import { PackageCache } from '../jail/package-cache.ts'
import { type SetupProxy, startSetupProxy } from '../jail/setup-proxy.ts'
import type { Clean } from '../lib/redact.ts'
import type { GuardedFetch } from '../outbound/guarded-fetch.ts'
import { RunFails } from './run-fails.ts'

export interface SetupRules {
  /** Hosts that may be reached; none turns the phase off. */
  hosts: readonly string[]
  checkHost: GuardedFetch['checkHost']
  /** Where answers of registries are kept, and what all of them may take. */
  packages: { root: string; maxBytes: number }
  limits?: SetupLimits | undefined
  log: {
    info(facts: object, sentence: string): void
    warn(facts: object, sentence: string): void
    error(facts: object, sentence: string): void
  }
}

export interface SetupLimits {
  /** How long a command may take. */
  commandMs: number
  /** How long a host may leave a request without a byte. */
  silenceMs: number
}

export interface Setup {
  rules: SetupRules
  commands: readonly string[]
  slot: JailSlot
  /** Host folder that the commands work in. */
  tree: string
  /** See `sharersOf`. */
  sharedBy: string
  /** A short folder for the proxy's socket, which every slot's uid can enter. */
  scratch: string
  /** The part of the run that needs what is installed. */
  stage: Stage
  clean: Clean
  /** Gets all that the commands printed, also when one of them failed. */
  keepLog: (text: string) => Promise<void>
  signal: AbortSignal
}

/** Runs of one repository, of one organisation and mode, share what registries answered. */
export const sharersOf = ({ organizationId, mode, order }: RunFacts): string =>
  `${organizationId}/${mode}\n${order?.workspaceSource.repository ?? ''}`

const LIMITS: SetupLimits = { commandMs: 15 * 60_000, silenceMs: 60_000 }
const OUTPUT_BYTES = 256 * 1024
const SHOWN_CHARACTERS = 2_000

/**
 * Installs what the repository depends on: the only phase with a way out, through a proxy that lets through an
 * allow-list of hosts, and without any secret. Throws `RunFails` workspace_failed or disk_limit.
 */
export async function runSetup(setup: Setup): Promise<SetupSummary[]> {
  const { rules, commands, scratch, signal, keepLog } = setup
  if (commands.length === 0) return []
  if (rules.hosts.length === 0) {
    await keepLog(
      `The setup phase is off (AGENTGATE_SETUP_HOSTS). Not run:\n${setup.clean(commands.join('\n'))}\n`,
    )
    return []
  }
  // A socket's path has to be short.
  await using folder = await temporaryFolder(join(scratch, 's-'))
  const cache = new PackageCache({ ...rules.packages, sharedBy: setup.sharedBy })
  await using proxy = await startSetupProxy({
    socketPath: join(folder.path, 'p'),
    allowedHosts: rules.hosts,
    checkHost: rules.checkHost,
    log: rules.log,
    cache,
    signal,
    idleMs: limitsOf(rules).silenceMs,
  })
  const mounts = await writeSettings(folder.path, rules.hosts)
  const done: SetupSummary[] = []
  let log = ''
  try {
    for (const command of commands) {
      const result = await runCommand(setup, command, { network: { proxySocket: proxy.socketPath }, mounts })
      signal.throwIfAborted()
      const output = setup.clean(plainText(result.output))
      log += `$ ${setup.clean(command)}\n${output}\n`
      if (result.outcome !== 'exited' || result.exitCode !== 0)
        throw failureOf(setup, proxy, { command, result, output })
      done.push({ command: setup.clean(command), durationMs: result.durationMs })
    }
  } finally {
    if (log !== '') await keepLog(log + closing(proxy))
    if (proxy.bytes > 0) await cache.trim()
  }
  return done
}

const limitsOf = ({ limits = LIMITS }: SetupRules): SetupLimits => limits

/** What a reader of the log cannot see in what the commands printed. */
function closing({ refused, silent, kept }: SetupProxy): string {
  const named = (what: string, hosts: readonly string[]): string =>
    hosts.length === 0 ? '' : `${what}: ${hosts.join(', ')}\n`
  const fromCache = kept === 0 ? '' : `Answers from the cache of packages: ${kept}\n`
  return `${named('Refused hosts', refused)}${named('Silent hosts', silent)}${fromCache}`
}

const INSIDE = '/run/agentgate'
const NPM_HOST = 'registry.npmjs.org'
const PYPI_HOSTS = ['pypi.org', 'files.pythonhosted.org']

/**
 * Lets npm and pip ask their public registries without TLS, as far as the proxy, which asks with it and keeps what is
 * answered. Settings of the repository come before these.
 */
export async function writeSettings(folder: string, hosts: readonly string[]): Promise<JailMount[]> {
  const npm = hosts.includes(NPM_HOST) ? `registry=http://${NPM_HOST}/\n` : ''
  const pip = PYPI_HOSTS.every((host) => hosts.includes(host))
    ? `[global]\nindex-url = http://pypi.org/simple\ntrusted-host = ${PYPI_HOSTS.join(' ')}\n`
    : ''
  const files = Object.entries({ npmrc: npm, 'pip.conf': pip })
  for (const [name, text] of files) await writeFile(join(folder, name), text, { mode: 0o644 })
  return files.map(([name]) => ({ source: join(folder, name), target: `${INSIDE}/${name}`, readOnly: true }))
}

const runCommand = (
  { rules, slot, tree, signal }: Setup,
  command: string,
  way: Pick<JailedCommand, 'network' | 'mounts'>,
): Promise<JailResult> =>
  slot.run({
    ...way,
    argv: ['/bin/sh', '-c', command],
    workspace: tree,
    env: {
      CI: 'true',
      NO_COLOR: '1',
      npm_config_userconfig: `${INSIDE}/npmrc`,
      PIP_CONFIG_FILE: `${INSIDE}/pip.conf`,
    },
    timeoutMs: limitsOf(rules).commandMs,
    maxOutputBytes: OUTPUT_BYTES,
    signal,
  })

interface FailedCommand {
  command: string
  result: JailResult
  output: string
}

function failureOf(
  { rules, stage, clean }: Setup,
  proxy: SetupProxy,
  { command, result, output }: FailedCommand,
): RunFails {
  const named = `The setup command "${clean(command).slice(0, 200)}"`
  const isLate = result.outcome === 'timed_out'
  const slowHosts = [...new Set([...proxy.silent, ...(isLate ? proxy.unfinished : [])])]
  const details = {
    output: output.slice(-SHOWN_CHARACTERS),
    refusedHosts: [...proxy.refused],
    ...(slowHosts.length === 0 ? {} : { slowHosts }),
  }
  if (result.outcome === 'disk_limit') {
    const message = `${named} took too much disk. ${result.reason}`
    return new RunFails({ reason: 'disk_limit', stage, message, details })
  }
  const seconds = limitsOf(rules).commandMs / 1000
  const how = isLate
    ? `it took longer than ${seconds} s`
    : result.outcome === 'exited'
      ? `exit code ${result.exitCode}`
      : result.outcome.replaceAll('_', ' ')
  if (slowHosts.length > 0)
    return new RunFails({
      reason: 'workspace_failed',
      stage,
      message: `${named} failed (${how}): ${slowHosts.join(', ')} did not answer in time.`,
      retryable: true,
      hint: 'Retry when the host answers again.',
      details,
    })
  return new RunFails({
    reason: 'workspace_failed',
    stage,
    message: `${named} failed (${how}).`,
    hint: 'Name the setup commands of this repository in gatePlan.setup, or the hosts they need in AGENTGATE_SETUP_HOSTS.',
    details,
  })
}

async function temporaryFolder(prefix: string): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(prefix)
  await chmod(path, 0o711)
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}
