import { GateError } from '../domain/error.ts'
import type { SocketAddress } from './database.ts'
import { EMBEDDED_DATABASE, EMBEDDED_USER } from './embedded-cluster.ts'
import { findClusterOf } from './embedded-folder.ts'
import { isPostmaster, PORT, readPostmaster } from './embedded-process.ts'

/**
 * The server that another gateway supervises on the data folder of its embedded database: to work on it as a guest,
 * who neither starts nor stops it. Throws `GateError` SERVICE_UNAVAILABLE when none runs there.
 */
export async function joinEmbeddedPostgres(dataDir: string): Promise<SocketAddress> {
  const cluster = await findClusterOf(dataDir)
  const postmaster = cluster === undefined ? undefined : await readPostmaster(cluster)
  if (cluster === undefined || !postmaster?.socketDir || !(await isPostmaster(cluster, postmaster.pid))) {
    throw new GateError('SERVICE_UNAVAILABLE', `No embedded PostgreSQL runs on ${dataDir}.`, {
      hint: 'Start the gateway of that folder first (agentgate start), or name a PostgreSQL in DATABASE_URL.',
    })
  }
  return { host: postmaster.socketDir, port: PORT, user: EMBEDDED_USER, database: EMBEDDED_DATABASE }
}
