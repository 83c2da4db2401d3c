import { setTimeout as pause } from 'node:timers/promises'
import { GateError } from '../domain/error.ts'
import { type Database, type DatabaseOptions, openDatabase } from './database.ts'
import { DatabaseError } from './database-error.ts'
import { findClusterOf } from './embedded-folder.ts'
import { joinEmbeddedPostgres } from './embedded-guest.ts'

/** A server that goes down in order and comes up again needs a second or two; recovery tells how it goes in the log. */
const PATIENCE_MS = 20_000
const POLL_MS = 100
const CANNOT_CONNECT_NOW = '57P03'

export interface Patience {
  /** Told once, when there is something to wait for. */
  onWait: (why: unknown) => void
  /** Waiting ends when somebody asks for the end of all. */
  isStopping: () => boolean
}

/** The database at `url`. Waits for a server that answers that it is starting; one that does not answer is an error. */
export const openAtUrl = (url: string, options: DatabaseOptions & Patience): Promise<Database> =>
  patiently(
    () => openDatabase(url, options),
    (error) => error instanceof DatabaseError && error.sqlState === CANNOT_CONNECT_NOW,
    options,
  )

/**
 * The embedded database of a data folder, as a guest of the gateway that supervises it. Waits for that gateway where there
 * has been one: it may be starting, or starting its server anew. Throws `GateError` SERVICE_UNAVAILABLE when none comes.
 */
export async function openAsGuest(dataDir: string, options: DatabaseOptions & Patience): Promise<Database> {
  const hasCluster = (await findClusterOf(dataDir)) !== undefined
  return patiently(
    async () => openDatabase(await joinEmbeddedPostgres(dataDir), options),
    (error) => hasCluster && (isAbsent(error) || (error instanceof DatabaseError && error.isConnectionLost)),
    options,
  )
}

const isAbsent = (error: unknown): boolean =>
  error instanceof GateError && error.code === 'SERVICE_UNAVAILABLE'

async function patiently<T>(
  work: () => Promise<T>,
  isPassing: (error: unknown) => boolean,
  { onWait, isStopping }: Patience,
): Promise<T> {
  const end = performance.now() + PATIENCE_MS
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (!isPassing(error) || isStopping() || performance.now() > end) throw error
      if (attempt === 1) onWait(error)
    }
    await pause(POLL_MS)
  }
}
