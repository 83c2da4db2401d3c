/**
 * Reads what `export.ts` has written, into a database that has no runs. One transaction: a file that is damaged, cut
 * off or of a newer schema leaves the database as it was.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { createGunzip } from 'node:zlib'
import { GateError } from '../domain/error.ts'
import type { Database, Tx } from './database.ts'
import { DatabaseError } from './database-error.ts'
import { FORMAT, type Header, readColumns, TABLES, type TableName, type Trailer } from './export.ts'
import { schemaVersion } from './migrate.ts'
import { createMonth, listMonths } from './partitions.ts'

const BATCH_ROWS = 500
const BATCH_CHARACTERS = 4 * 2 ** 20
/** Longer than any row that a gateway writes. */
const LINE_CHARACTERS = 256 * 2 ** 20

export interface Imported {
  rows: number
  /** Of the log, from now on: cursors of before know that they are of another one. */
  epoch: number
  masterKeyId: string
}

/**
 * Throws `GateError`: CONFLICT when the database has runs or a working server, or the file is of a newer schema;
 * INVALID_FORMAT when the file is no export or is damaged.
 */
export async function importDatabase(database: Database, path: string, at: Date): Promise<Imported> {
  await using connection = await database.connect()
  return await connection.inTransaction(async (tx) => {
    await refuseUnlessEmpty(tx, at)
    const load = new Load(tx)
    try {
      for await (const line of readLines(path)) await load.take(line)
      return await load.finish()
    } catch (error) {
      throw asRefusal(error, path)
    }
  })
}

/** What a start has made goes; the lock keeps any other start out until the end. */
async function refuseUnlessEmpty(tx: Tx, at: Date): Promise<void> {
  await tx.query(`lock table worker in access exclusive mode`)
  const [found] = await tx.query<{ runs: boolean; workers: boolean }>(
    `select exists (select from run) as runs, exists (select from worker where lease_until > $1) as workers`,
    [at],
  )
  if (found?.workers) {
    throw new GateError('CONFLICT', 'A gateway is running on this database.', {
      hint: 'Stop it; one that was killed is forgotten after AGENTGATE_LEASE_SECONDS.',
    })
  }
  if (found?.runs) {
    throw new GateError('CONFLICT', 'This database has runs already.', {
      hint: 'Import into a new data folder, or into a new database.',
    })
  }
  await tx.query(`truncate ${TABLES.join(', ')}`)
}

class Load {
  readonly #tx: Tx
  readonly #hash = createHash('sha256')
  readonly #counts = new Map<TableName, number>()
  #header: Header | null = null
  #trailer: Trailer | null = null
  #table: TableName = 'installation'
  #rows: string[] = []
  #characters = 0

  constructor(tx: Tx) {
    this.#tx = tx
  }

  async take(line: string): Promise<void> {
    if (this.#trailer !== null) throw damaged('Something stands behind its end.')
    if (this.#header !== null && !line.startsWith('["')) {
      this.#trailer = readTrailer(line)
      return
    }
    this.#hash.update(`${line}\n`)
    if (this.#header === null) await this.#begin(line)
    else await this.#takeRow(line)
  }

  async #begin(line: string): Promise<void> {
    const header = readHeader(line)
    const schema = await schemaVersion(this.#tx)
    if (header.schema > schema) {
      throw new GateError('CONFLICT', `The file has schema ${header.schema}; this gateway knows ${schema}.`, {
        hint: 'Import it with the release that made it, or a newer one.',
      })
    }
    this.#header = await this.#checkColumns(header)
    const known = new Set(await listMonths(this.#tx))
    for (const month of header.months) if (!known.has(month)) await createMonth(this.#tx, month)
  }

  /** Names of columns become SQL: only those that the schema has. */
  async #checkColumns(header: Header): Promise<Header> {
    const known = await readColumns(this.#tx)
    for (const table of TABLES) {
      const unknown = header.columns[table]?.find((column) => !known[table]?.includes(column))
      if (unknown !== undefined) throw damaged(`It has a column ${table}.${unknown}, which does not exist.`)
    }
    return header
  }

  async #takeRow(line: string): Promise<void> {
    const end = line.indexOf('",')
    const table = TABLES.find((name) => name === line.slice(2, end))
    if (table === undefined || !line.endsWith(']')) throw damaged('It has a line that is no row.')
    const isFull = this.#rows.length >= BATCH_ROWS || this.#characters >= BATCH_CHARACTERS
    if (table !== this.#table || isFull) await this.#flush()
    this.#table = table
    const row = line.slice(end + 2, -1)
    this.#rows.push(row)
    this.#characters += row.length
  }

  async #flush(): Promise<void> {
    const rows = this.#rows.splice(0)
    this.#characters = 0
    if (rows.length === 0) return
    const table = this.#table
    const columns = this.#header?.columns[table]?.map((column) => `"${column}"`).join(', ')
    if (columns === undefined) throw damaged(`Its header does not know the table ${table}.`)
    await this.#tx.query(
      `insert into ${table} (${columns}) select ${columns} from json_populate_recordset(null::${table}, $1::json)`,
      [`[${rows.join(',')}]`],
    )
    this.#counts.set(table, (this.#counts.get(table) ?? 0) + rows.length)
  }

  /** Compares what came with what the trailer says, and what stands in the tables with both. */
  async finish(): Promise<Imported> {
    await this.#flush()
    if (this.#header === null || this.#trailer === null) throw damaged('Its end is missing.')
    if (this.#hash.digest('hex') !== this.#trailer.sha256) throw damaged('Its checksum is wrong.')
    for (const table of TABLES) {
      const told = this.#trailer.counts[table] ?? 0
      const [stored] = await this.#tx.query<{ count: number }>(`select count(*)::int8 as count from ${table}`)
      if (told !== (this.#counts.get(table) ?? 0) || told !== stored?.count) {
        throw damaged(`It should have ${told} rows of ${table}.`)
      }
    }
    const [installation] = await this.#tx.query<{ epoch: number }>(
      'update installation set epoch = epoch + 1 returning epoch',
    )
    if (installation === undefined) throw damaged('It has no installation.')
    const rows = [...this.#counts.values()].reduce((sum, count) => sum + count, 0)
    return { rows, epoch: installation.epoch, masterKeyId: this.#header.masterKeyId }
  }
}

function readHeader(line: string): Header {
  const header = parse(line)
  if (!isRecord(header) || header['format'] !== FORMAT) {
    throw new GateError('INVALID_FORMAT', 'The file is not an export of AgentGate.')
  }
  const { schema, months, columns, masterKeyId } = header
  const isWhole =
    Number.isInteger(schema) &&
    Array.isArray(months) &&
    months.every((month) => /^\d{4}-\d{2}$/.test(String(month))) &&
    isRecord(columns) &&
    Object.values(columns).every(isNames) &&
    typeof masterKeyId === 'string'
  if (!isWhole) throw damaged('Its header is not whole.')
  return header as unknown as Header // every field that is used was checked above
}

function readTrailer(line: string): Trailer {
  const trailer = parse(line)
  if (!isRecord(trailer) || !isRecord(trailer['counts']) || typeof trailer['sha256'] !== 'string') {
    throw damaged('It has a line that is no row.')
  }
  return { counts: trailer['counts'] as Record<string, number>, sha256: trailer['sha256'] } // compared, never trusted
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    throw damaged('It has a line that is no JSON.')
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isNames = (value: unknown): boolean =>
  Array.isArray(value) && value.every((name) => /^[a-z_]+$/.test(String(name)))

/** The lines of a gzip file, read one piece at a time. */
async function* readLines(path: string): AsyncGenerator<string> {
  const unpacked = createGunzip()
  const file = createReadStream(path).on('error', (error) => unpacked.destroy(error))
  file.pipe(unpacked).setEncoding('utf8')
  let pieces: string[] = []
  let length = 0
  try {
    for await (const piece of unpacked) {
      let start = 0
      for (let end = piece.indexOf('\n'); end >= 0; end = piece.indexOf('\n', start)) {
        yield pieces.join('') + piece.slice(start, end)
        pieces = []
        length = 0
        start = end + 1
      }
      pieces.push(piece.slice(start))
      length += piece.length - start
      if (length > LINE_CHARACTERS) throw damaged('It has a line without an end.')
    }
  } finally {
    file.destroy()
  }
  if (length > 0) throw damaged('It ends within a line.')
}

const damaged = (why: string): GateError =>
  new GateError('INVALID_FORMAT', `The file is damaged: ${why}`, {
    hint: 'Take another copy; nothing was imported.',
  })

/** Data that PostgreSQL refuses, or that cannot be unpacked, is damage too; a lost connection is not. */
function asRefusal(error: unknown, path: string): unknown {
  if (error instanceof GateError) return error
  if (error instanceof DatabaseError) {
    return /^2[23]/.test(error.sqlState ?? '') ? damaged(error.message) : error
  }
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (code.startsWith('Z_')) return damaged('It cannot be unpacked.')
  if (code === 'ENOENT') return new GateError('RESOURCE_NOT_FOUND', `${path} does not exist.`)
  return error
}
