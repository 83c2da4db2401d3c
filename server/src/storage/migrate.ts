import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { GateError } from '../domain/error.ts'
import { backoffMs } from '../lib/backoff.ts'
import { sha256 } from '../lib/hash.ts'
import { invariant } from '../lib/invariant.ts'
import type { Database, Db, DedicatedConnection } from './database.ts'
import { DatabaseError } from './database-error.ts'

/** A numbered file, `0001_first.sql`. Migrations only go forward; one that has been released never changes. */
interface Migration {
  version: number
  name: string
  sha256: string
  sql: string
}

interface AppliedMigration {
  version: number
  name: string
  sha256: string
}

export const MIGRATIONS = new URL('./migrations/', import.meta.url)

const FILE_NAME = /^(\d{4})_([a-z0-9_]+)\.sql$/
const MIGRATION_LOCK = [0x6761_7465, 2] as const

/** A migration that waits for a lock keeps all others waiting behind it: rather give up and come again. */
const LOCK_TIMEOUT = '2s'
const TRIES = 5
const PAUSE = { firstMs: 200, factor: 2, maxMs: 2_000 }

/**
 * Brings the schema to the newest file of `folder`, each file in a transaction of its own, one process at a time.
 * Gives the names of the files it has applied. Refuses (`GateError` CONFLICT) a schema that is newer than the files
 * and a file that has changed since it was applied.
 */
export async function migrate(database: Database, folder: URL): Promise<string[]> {
  const migrations = await readMigrations(folder)
  await using connection = await database.connect()
  await connection.query('select pg_advisory_lock($1, $2)', MIGRATION_LOCK)
  await connection.query(`set lock_timeout = '${LOCK_TIMEOUT}'`)
  await connection.query(`
    create table if not exists migration (
      version    int primary key,
      name       text not null,
      sha256     text not null,
      applied_at timestamptz not null
    )`)
  const pending = findPending(migrations, await listApplied(connection))
  for (const migration of pending) await applyPatiently(connection, migration)
  return pending.map((migration) => migration.name)
}

/** The version of the last applied migration; 0 for an empty database. */
export async function schemaVersion(db: Db): Promise<number> {
  const [table] = await db.query<{ found: boolean }>("select to_regclass('migration') is not null as found")
  if (!table?.found) return 0
  const applied = await listApplied(db)
  return applied.at(-1)?.version ?? 0
}

const listApplied = (db: Db): Promise<AppliedMigration[]> =>
  db.query<AppliedMigration>('select version, name, sha256 from migration order by version')

async function readMigrations(folder: URL): Promise<Migration[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.sql')).sort()
  return Promise.all(
    names.map(async (name, index) => {
      const version = Number(FILE_NAME.exec(name)?.[1])
      invariant(version === index + 1, `${name} is not the migration with number ${index + 1}`)
      const sql = await readFile(new URL(name, folder), 'utf8')
      return { version, name, sql, sha256: sha256(sql) }
    }),
  )
}

function findPending(migrations: Migration[], applied: AppliedMigration[]): Migration[] {
  const newest = applied.at(-1)?.version ?? 0
  if (newest > migrations.length) {
    throw new GateError(
      'CONFLICT',
      `The database has schema ${newest}; this gateway knows ${migrations.length}.`,
      { hint: 'Start the newer release, or restore an export made by this one.' },
    )
  }
  for (const { version, name, sha256 } of applied) {
    if (migrations[version - 1]?.sha256 === sha256) continue
    throw new GateError('CONFLICT', `Migration ${name} is not the one that this database has had.`, {
      hint: 'Bring the file back to its released text, and put the change into a new migration.',
    })
  }
  return migrations.slice(newest)
}

async function applyPatiently(connection: DedicatedConnection, migration: Migration): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await apply(connection, migration)
      return
    } catch (cause) {
      const isBusy = cause instanceof DatabaseError && cause.isTransient && !cause.isConnectionLost
      if (!isBusy || attempt === TRIES) {
        const said = cause instanceof Error ? cause.message : String(cause)
        throw new GateError('SERVICE_UNAVAILABLE', `Migration ${migration.name} failed: ${said}`, { cause })
      }
      await pause(backoffMs(PAUSE, attempt, Math.random()))
    }
  }
}

const apply = (connection: DedicatedConnection, { version, name, sha256, sql }: Migration): Promise<void> =>
  connection.inTransaction(async (tx) => {
    await tx.query(sql)
    await tx.query(
      'insert into migration (version, name, sha256, applied_at) values ($1, $2, $3, clock_timestamp())',
      [version, name, sha256],
    )
  })
