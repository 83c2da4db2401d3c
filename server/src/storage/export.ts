/**
 * A whole database as one file: gzip of lines of JSON. The first is the header, then come the rows of each table as
 * `["<table>",{…}]`, as PostgreSQL writes them, and last the trailer with the number of rows per table and the SHA-256
 * of all lines before it. Secrets stay sealed; the master key is not in the file.
 */
import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { link, open, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { GateError } from '../domain/error.ts'
import type { Database, Db } from './database.ts'
import { findInstallation } from './installation.ts'
import { schemaVersion } from './migrate.ts'
import { listMonths, type Month } from './partitions.ts'

export const FORMAT = 'agentgate-export/1'

/** Every table that is kept, what is referred to first. `worker` and `migration` belong to a server, not to its data. */
export const TABLES = [
  'installation',
  'organization',
  'api_key',
  'git_credential',
  'webhook_secret',
  'account',
  'ledger',
  'credit_grant',
  'late_usage',
  'blob',
  'blob_chunk',
  'run',
  'run_body',
  'run_outcome',
  'run_event',
  'step',
  'work_order',
  'purged_run',
  'artifact',
  'lane',
  'capacity',
  'idempotency_key',
  'delivery',
  'delivery_attempt',
] as const

export type TableName = (typeof TABLES)[number]
export const LEFT_OUT = ['worker', 'migration'] as const

export interface Header {
  format: string
  schema: number
  /** ISO 8601. */
  exportedAt: string
  installationId: string
  /** Tells the master key that the secrets in the file are sealed with. */
  masterKeyId: string
  /** Of the log, by month. */
  months: Month[]
  /** Columns of each table, in the order of the schema. */
  columns: Record<string, string[]>
}

export interface Trailer {
  counts: Record<string, number>
  /** Of all lines before this one, with their line ends; lower-case hexadecimal. */
  sha256: string
}

/** Rows fetched at once: of a table whose rows are a quarter of a megabyte, only a few. */
const fetchSize = (table: TableName): number => (table === 'blob_chunk' ? 8 : 64)

/** Everything as of one moment, in lines, with bounded memory; work on the database may go on meanwhile. */
export async function* exportLines(database: Database, at: Date): AsyncGenerator<string> {
  await using connection = await database.connect()
  await connection.query('begin isolation level repeatable read, read only')
  const hash = createHash('sha256')
  const counts: Record<string, number> = {}
  const hashed = (line: string): string => {
    hash.update(line)
    return line
  }
  const header = await readHeader(connection, at)
  yield hashed(`${JSON.stringify(header)}\n`)
  for (const table of TABLES) {
    let count = 0
    for await (const rows of readRows(connection, table)) {
      count += rows.length
      yield hashed(rows.map((row) => `["${table}",${row}]\n`).join(''))
    }
    counts[table] = count
  }
  const trailer: Trailer = { counts, sha256: hash.digest('hex') }
  yield `${JSON.stringify(trailer)}\n`
  await connection.query('commit')
}

async function readHeader(db: Db, at: Date): Promise<Header> {
  const columns = await readColumns(db)
  if (TABLES.some((table) => columns[table] === undefined)) {
    throw new GateError('CONFLICT', 'This database has not the schema of this release.', {
      hint: 'Export with the release that made it, or start this release on it first.',
    })
  }
  const installation = await findInstallation(db)
  if (installation === undefined) {
    throw new GateError('CONFLICT', 'There is nothing to export: no gateway has started on this database.')
  }
  return {
    format: FORMAT,
    schema: await schemaVersion(db),
    exportedAt: at.toISOString(),
    installationId: installation.id,
    masterKeyId: installation.masterKeyId,
    months: await listMonths(db),
    columns,
  }
}

/** The columns of every kept table. */
export async function readColumns(db: Db): Promise<Record<string, string[]>> {
  const rows = await db.query<{ name: string; columns: string[] }>(
    `select c.relname as name, array_agg(a.attname::text order by a.attnum) as columns
      from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where c.relnamespace = current_schema()::regnamespace and c.relname = any ($1)
      group by c.relname`,
    [[...TABLES]],
  )
  return Object.fromEntries(rows.map(({ name, columns }) => [name, columns]))
}

async function* readRows(db: Db, table: TableName): AsyncGenerator<string[]> {
  await db.query(
    `declare portion no scroll cursor for select row_to_json(${table})::text as line from ${table}`,
  )
  for (;;) {
    const rows = await db.query<{ line: string }>(`fetch ${fetchSize(table)} from portion`)
    if (rows.length === 0) break
    yield rows.map(({ line }) => line)
  }
  await db.query('close portion')
}

export interface Exported {
  rows: number
  masterKeyId: string
}

/**
 * Writes the file, readable by its owner only; it appears whole or not at all. Throws `GateError` CONFLICT when it is
 * there already.
 */
export async function exportDatabase(database: Database, path: string, at: Date): Promise<Exported> {
  const aside = `${path}.part-${process.pid}`
  const exported = { rows: 0, masterKeyId: '' }
  const lines = async function* (): AsyncGenerator<string> {
    for await (const portion of exportLines(database, at)) {
      if (exported.masterKeyId === '') exported.masterKeyId = (JSON.parse(portion) as Header).masterKeyId
      else if (portion.startsWith('[')) exported.rows += portion.split('\n').length - 1
      yield portion
    }
  }
  try {
    await pipeline(
      Readable.from(lines(), { objectMode: false, highWaterMark: 1 }),
      createGzip({ level: 6 }),
      createWriteStream(aside, { flags: 'wx', mode: 0o600, flush: true }),
    )
    await link(aside, path)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') {
      throw new GateError('CONFLICT', `${path} exists already.`, { hint: 'Name a new file.', cause: error })
    }
    throw error
  } finally {
    await rm(aside, { force: true })
  }
  await using folder = await open(dirname(path))
  await folder.sync()
  return exported
}
