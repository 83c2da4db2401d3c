import { readdirSync } from 'node:fs'
import { GateError } from '../domain/error.ts'
import { makeOwnFolder } from '../lib/own-folder.ts'

/** What a start makes in its data folder; one of these is enough to tell that the folder is ours. */
const OURS = new Set(['postgresql', 'master.key', 'first-keys.env', 'work'])
const HARMLESS = new Set(['lost+found'])

/** Something in the folder that tells that it is not a data folder; nothing where it is one, empty or missing. */
export function findForeignEntry(dataDir: string): string | undefined {
  let entries: string[]
  try {
    entries = readdirSync(dataDir)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
  if (entries.some((name) => OURS.has(name))) return undefined
  return entries.find((name) => !HARMLESS.has(name))
}

/**
 * Before anything is written between somebody's own files. Throws `GateError` CONFLICT, and INVALID_VALUE where there can be
 * no such folder.
 */
export function refuseForeignFolder(dataDir: string): void {
  let foreign: string | undefined
  try {
    foreign = findForeignEntry(dataDir)
  } catch (error) {
    throw impossible(dataDir, error)
  }
  if (foreign === undefined) return
  throw new GateError('CONFLICT', `${dataDir} is not a data folder of AgentGate: it holds ${foreign}.`, {
    hint: 'Name an empty or a new folder in AGENTGATE_DATA_DIR.',
  })
}

/** Makes the folder, or finds it. Throws as above. */
export async function makeDataFolder(dataDir: string): Promise<void> {
  refuseForeignFolder(dataDir)
  await makeOwnFolder(dataDir).catch((error: unknown) => {
    throw impossible(dataDir, error)
  })
}

function impossible(dataDir: string, cause: unknown): GateError {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new GateError('INVALID_VALUE', `There can be no data folder ${dataDir}: ${why}.`, {
    hint: 'Name a folder that can be written in AGENTGATE_DATA_DIR.',
    cause,
  })
}
