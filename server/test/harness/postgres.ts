import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { inject } from 'vitest'
import { openConnection, openDatabase, type SocketAddress } from '../../src/storage/database.ts'
import { startEmbeddedPostgres } from '../../src/storage/embedded-postgres.ts'
import { MIGRATIONS, migrate } from '../../src/storage/migrate.ts'

/** The server of one test run, as its workers get to know it. */
export interface TestServer {
  /** Of a database that is not for tests, with the right to create others. */
  adminUrl: string
  /** The name of a migrated database that nobody is connected to. */
  template: string
}

declare module 'vitest' {
  export interface ProvidedContext {
    testServer: TestServer
  }
}

const FOLDERS = '/var/tmp'
const PREFIX = 'agentgate-test-'

/** Nothing here has to outlive the machine; the rest is as in production. */
const FAST = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', max_connections: '200' }

/** The URL of a new database with the current schema. It goes with the server, or at the end of the run. */
export const provideTestDatabase = (): Promise<string> => createDatabase(inject('testServer').template)

/** The URL of a new database with nothing in it. */
export const provideEmptyDatabase = (): Promise<string> => createDatabase('template1')

async function createDatabase(source: string): Promise<string> {
  const { adminUrl, template } = inject('testServer')
  const name = `${template}_${randomBytes(6).toString('hex')}`
  await using admin = await openConnection(adminUrl)
  await admin.query(`create database ${name} template ${source}`)
  return urlOf(adminUrl, name)
}

/**
 * The one server of a test run: an embedded one in a new folder, or the one that `externalUrl` names. The second
 * value ends it and removes what the run has made.
 */
export async function startTestServer(
  externalUrl: string | undefined,
): Promise<[TestServer, () => Promise<void>]> {
  if (externalUrl !== undefined) {
    const server = await makeTemplate(externalUrl)
    return [server, () => dropDatabases(server)]
  }
  await removeAbandonedFolders()
  const folder = await mkdtemp(join(FOLDERS, `${PREFIX}${process.pid}-`))
  await chmod(folder, 0o711)
  const postgres = await startEmbeddedPostgres({
    dataDir: join(folder, 'data'),
    log: () => undefined,
    lifetime: 'with-parent',
    settings: FAST,
  })
  const end = async (): Promise<void> => {
    await postgres.stop()
    await rm(folder, { recursive: true, force: true })
  }
  return [await makeTemplate(socketUrl(postgres.connection)), end]
}

async function makeTemplate(adminUrl: string): Promise<TestServer> {
  const template = `agentgate_template_${randomBytes(4).toString('hex')}`
  await using admin = await openConnection(adminUrl)
  await admin.query(`create database ${template}`)
  await using database = await openDatabase(urlOf(adminUrl, template), {
    maxReaders: 1,
    statementTimeoutMs: 0,
  })
  await migrate(database, MIGRATIONS)
  return { adminUrl, template }
}

async function dropDatabases({ adminUrl, template }: TestServer): Promise<void> {
  await using admin = await openConnection(adminUrl)
  const databases = await admin.query<{ name: string }>(
    'select datname as name from pg_database where starts_with(datname, $1)',
    [template],
  )
  for (const { name } of databases) await admin.query(`drop database ${name} with (force)`)
}

/** A run that was killed could not tidy up; its server has ended with it. */
async function removeAbandonedFolders(): Promise<void> {
  const [folders, processes] = await Promise.all([readdir(FOLDERS), readdir('/proc').catch(() => undefined)])
  for (const name of folders.filter((folder) => folder.startsWith(PREFIX))) {
    const pid = name.slice(PREFIX.length).split('-')[0] ?? ''
    if (processes === undefined || processes.includes(pid)) continue
    await rm(join(FOLDERS, name), { recursive: true, force: true }).catch(() => 'it is another user’s')
  }
}

export function socketUrl({ host, port, user, database }: SocketAddress): string {
  const url = new URL(`postgresql://${user}@localhost:${port}/${database}`)
  url.searchParams.set('host', host)
  return url.href
}

export function urlOf(serverUrl: string, database: string): string {
  const url = new URL(serverUrl)
  url.pathname = `/${database}`
  return url.href
}
