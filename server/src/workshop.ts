import { realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { loopDriver } from './agents/loop.ts'
import { modelClient } from './agents/model-client.ts'
import { scriptedDriver } from './agents/scripted.ts'
import { Conductor } from './conduct/conductor.ts'
import type { Secrecy } from './conduct/kept-call.ts'
import type { Config } from './config.ts'
import type { CredentialDesk } from './credential-desk.ts'
import type { Performer } from './domain/performer.ts'
import type { Effects } from './effects.ts'
import { DEFAULT_LIMITS, type JailSlot, type Jails, jailRoot, openJails } from './jail/jail.ts'
import { clearRemains, sweepWorkspaces } from './janitor.ts'
import type { Clock } from './lib/clock.ts'
import type { MaskKind } from './lib/redact.ts'
import { Secret } from './lib/secret.ts'
import type { GuardedFetch } from './outbound/guarded-fetch.ts'
import type { Database } from './storage/database.ts'
import type { SecretPlace, Vault } from './vault/vault.ts'
import { Workspaces } from './workspaces/workspaces.ts'

/** Where claimed runs are worked on. */
export interface Workshop {
  performer: Performer
  /** What kind of jail agents run in. */
  jail: string
  /** Removes workspaces of runs that are over. */
  sweep(): Promise<void>
}

/** Of a process that takes orders and works on none. */
export const NO_WORKSHOP: Workshop = {
  performer: {
    resumePoint: async () => 0,
    perform: () => Promise.reject(new Error('a process without slots was given a run')),
  },
  jail: 'no work here',
  sweep: async () => undefined,
}

export interface WorkshopParts {
  config: Config
  effects: Effects
  yard: Yard
  database: Database
  clock: Clock
  fetch: GuardedFetch
  desk: CredentialDesk
  vault: Vault
  /** Where clients reach the gateway. */
  publicUrl: () => string
  onMasked: (kind: MaskKind, count: number) => void
}

/** Jails that have been tried out, and the folders beside them. Needs no database. */
export interface Yard {
  jails: Jails
  root: string
  scratch: string
}

export async function openYard(config: Config, log: Effects['log']): Promise<Yard> {
  const root = jailRoot(config.dataDir)
  const scratch = await clearRemains(root)
  const jails = await openJails({
    log,
    slots: config.jailSlots,
    baseUid: config.jailUid,
    preferred: config.jail,
    root,
    limits: { ...DEFAULT_LIMITS, diskBytes: config.diskLimitBytes },
    // Below the whole of it new runs are refused; what runs may use half of that.
    diskFloorBytes: config.minDiskBytes / 2,
  })
  return { jails, root, scratch }
}

export async function openWorkshop(parts: WorkshopParts): Promise<Workshop> {
  const { config, effects, database, clock, fetch, desk, publicUrl } = parts
  const { jails, root, scratch } = parts.yard
  const { log } = effects
  // Commands in a jail can read where their files come from.
  const folders = [...new Set([root, await realpath(root)])]
  const slots = new Map<string, JailSlot>()
  const workspaces = new Workspaces({
    root: join(root, 'git'),
    gitBinary: 'git',
    allowedPrivateHosts: config.allowedPrivateHosts,
    diskLimitBytes: config.diskLimitBytes,
    findCredential: (request) => desk.gitCredential(request),
    ownerOf: (runId) => slots.get(runId),
  })
  const performer = new Conductor({
    db: database,
    clock,
    jails,
    workspaces,
    setup: {
      hosts: config.setupHosts,
      checkHost: (host, port) => fetch.checkHost(host, port),
      packages: { root: join(root, 'packages'), maxBytes: config.diskLimitBytes },
      limits: effects.setupLimits,
      log,
    },
    scratch,
    forgeOf: (organization, repository) => desk.forge(organization, repository),
    runUrl: (runId) => `${publicUrl()}/v1/runs/${runId}`,
    secrecyOf: (run) => secrecyOf(parts, run, folders),
    slots,
    pause: effects.pause,
    drivers: driversOf(parts),
    log,
  })
  const sweep = async (): Promise<void> => {
    const swept = await sweepWorkspaces(root, workspaces, database)
    if (swept > 0) log.info({ swept }, 'Workspaces of runs that are over were removed.')
  }
  return { performer, jail: jails.report.jail, sweep }
}

function driversOf({ config, effects, clock }: WorkshopParts) {
  const { log, random, modelRetry } = effects
  const client = modelClient({
    providers: config.providers,
    maxOutputTokens: config.maxOutputTokens,
    stepTimeoutMs: 600_000,
    silenceTimeoutMs: 120_000,
    clock,
  })
  const retry = modelRetry && { retry: modelRetry }
  return {
    loop: loopDriver({ client, clock, random, log, contextTokens: 120_000, ...retry }),
    scripted: scriptedDriver(clock),
  }
}

async function secrecyOf(
  { desk, vault, onMasked }: WorkshopParts,
  run: Parameters<CredentialDesk['redactorOf']>[0],
  folders: readonly string[],
): Promise<Secrecy> {
  const { organizationId } = run
  const placeOf = (callId: string): SecretPlace => ({ organizationId, purpose: `call/${callId}` })
  return {
    seal: (text, callId) => vault.seal(new Secret(text), placeOf(callId)).toString('base64'),
    open: (sealed, callId) => vault.open(Buffer.from(sealed, 'base64'), placeOf(callId)).reveal(),
    ...(await desk.redactorOf(run, { folders, onMasked })),
  }
}
