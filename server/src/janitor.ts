import { readdirSync } from 'node:fs'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { cleanJails } from './jail/jail.ts'
import { isStale, processMark } from './jail/process-mark.ts'
import type { Database } from './storage/database.ts'
import { listOpenOrderRuns } from './storage/runs.ts'
import type { Workspaces } from './workspaces/workspaces.ts'

/**
 * Clears what dead processes have left below `root`: jails with their sockets, control groups and processes, and
 * scratch folders. Makes a scratch folder of our own, which jails can enter, and gives its path.
 */
export async function clearRemains(root: string): Promise<string> {
  cleanJails(root)
  const scratches = join(root, 'scratch')
  const own = join(scratches, processMark())
  await mkdir(scratches, { recursive: true, mode: 0o711 })
  for (const name of await readdir(scratches)) {
    if (isStale(name)) await rm(join(scratches, name), { recursive: true, force: true })
  }
  await mkdir(own, { recursive: true, mode: 0o711 })
  return own
}

/**
 * Removes the workspaces of runs that are over; gives how many. Only while no other process works in `root`: a
 * workspace that it has just opened would look like a remnant.
 */
export async function sweepWorkspaces(
  root: string,
  workspaces: Workspaces,
  database: Database,
): Promise<number> {
  const others = readdirSync(root).filter(
    (name) =>
      name.startsWith('jails-') && !name.startsWith(`jails-${processMark()}`) && !isStale(name.slice(6)),
  )
  if (others.length > 0) return 0
  return workspaces.sweep(new Set(await listOpenOrderRuns(database)))
}
