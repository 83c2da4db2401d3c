import { join } from 'node:path'
import type { Config } from '../config.ts'
import { GateError, notFound } from '../domain/error.ts'
import { type Database, openDatabase } from '../storage/database.ts'
import { findClusterOf } from '../storage/embedded-folder.ts'
import { joinEmbeddedPostgres } from '../storage/embedded-guest.ts'
import { startEmbeddedPostgres } from '../storage/embedded-postgres.ts'

const OPTIONS = { maxReaders: 2, statementTimeoutMs: 0 }

/** The database of a gateway, for a command that needs no gateway. */
export interface DataDatabase extends AsyncDisposable {
  database: Database
}

/**
 * The one that `DATABASE_URL` names, or the embedded one of the data folder: as a guest of the gateway that runs there
 * if `mayJoin`, else started for as long as the command takes.
 */
export async function openDataDatabase(
  config: Config,
  { mayJoin }: { mayJoin: boolean },
): Promise<DataDatabase> {
  if (config.databaseUrl !== null) return plain(await openDatabase(config.databaseUrl.reveal(), OPTIONS))
  const dataDir = join(config.dataDir, 'postgresql')
  if (mayJoin && (await findClusterOf(dataDir)) === undefined) throw notFound(`A database in ${dataDir}`)
  const running = mayJoin ? await joinEmbeddedPostgres(dataDir).catch(ignoreAbsence) : undefined
  if (running !== undefined) return plain(await openDatabase(running, OPTIONS))
  const server = await startEmbeddedPostgres({ dataDir, log: () => undefined, lifetime: 'with-parent' })
  try {
    const database = await openDatabase(server.connection, OPTIONS)
    return {
      database,
      async [Symbol.asyncDispose]() {
        await database.close()
        await server.stop()
      },
    }
  } catch (error) {
    await server.stop()
    throw error
  }
}

const plain = (database: Database): DataDatabase => ({
  database,
  [Symbol.asyncDispose]: () => database.close(),
})

function ignoreAbsence(error: unknown): undefined {
  if (error instanceof GateError && error.code === 'SERVICE_UNAVAILABLE') return undefined
  throw error
}
