import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Database, openDatabase } from '../server/src/storage/database.ts'
import { startEmbeddedPostgres } from '../server/src/storage/embedded-postgres.ts'
import { makeBenchFolder } from './bench-folder.ts'

/** A PostgreSQL (fsync on) that several processes may use. */
export interface BenchDatabase extends AsyncDisposable {
  /** For `DATABASE_URL`. */
  url: string
  postmasterPid: number
  database: Database
  /** A folder of its own for each process that uses it. */
  path: string
}

/** In a new folder; all of it goes when disposed of, and with this process in any case. */
export async function openBenchDatabase(): Promise<BenchDatabase> {
  const folder = await makeBenchFolder()
  const postgres = await startEmbeddedPostgres({
    dataDir: join(folder.dataDir, 'postgresql'),
    log: () => undefined,
    lifetime: 'with-parent',
  })
  const { host, port, user, database: name } = postgres.connection
  const url = new URL(`postgresql://${user}@localhost:${port}/${name}`)
  url.searchParams.set('host', host)
  const database = await openDatabase(url.href, { maxReaders: 4, statementTimeoutMs: 0 })
  return {
    url: url.href,
    postmasterPid: postgres.pid,
    database,
    path: folder.path,
    async [Symbol.asyncDispose]() {
      await database.close()
      await postgres.stop()
      await folder[Symbol.asyncDispose]()
      await rm(host, { recursive: true, force: true })
    },
  }
}
