/**
 * The only door to PostgreSQL: a pool for readers and short transactions, and connections of one's own for
 * writers and LISTEN. Whatever the driver throws leaves here as a `DatabaseError`.
 */
import pg from 'pg'
import { GateError } from '../domain/error.ts'
import { asDatabaseError, DatabaseError } from './database-error.ts'

/** Where a server listens when it has no URL: the embedded one, by its socket folder. */
export interface SocketAddress {
  /** The folder of the socket (absolute path). */
  host: string
  port: number
  user: string
  database: string
  password?: string
}

/** A statement that each connection prepares once, under its name. */
export interface NamedStatement {
  name: string
  text: string
}

/** What reads need. A `Tx` is also a `Db`, so that a read can be part of a transaction. */
export interface Db {
  /**
   * Rows in the statement's order; `Row` is the caller's word for what the statement selects. `int8` arrives as a
   * number (as a bigint beyond 2^53), `timestamptz` as a Date, `numeric` and `xid8` as text, `bytea` as a Buffer.
   */
  query<Row extends object = Record<string, unknown>>(
    statement: string | NamedStatement,
    values?: readonly unknown[],
  ): Promise<Row[]>
}

const INSIDE = Symbol('inside a transaction')

/** A `Db` inside a transaction; only `inTransaction` makes one. */
export interface Tx extends Db {
  readonly [INSIDE]: true
}

/** Reads, and transactions of its own. */
export interface Transactor extends Db {
  /**
   * Commits when `work` fulfils, rolls back when it rejects. READ COMMITTED, unless the first statement of `work`
   * says otherwise. A `DatabaseError` with `isConnectionLost` leaves open whether the commit happened.
   */
  inTransaction<T>(work: (tx: Tx) => Promise<T>): Promise<T>
}

/** A connection with one user at a time: statements are awaited before the next is sent. */
export interface DedicatedConnection extends Transactor, AsyncDisposable {
  readonly backendPid: number
  onNotification(listener: (channel: string, payload: string) => void): void
  /** Called once, when the connection is lost; not after `close()`. It does not come back: connect again. */
  onEnd(listener: (error: DatabaseError) => void): void
  close(): Promise<void>
}

export interface Database extends Transactor, AsyncDisposable {
  /** A connection outside the pool, with these settings (`SET` names and values) on top of the common ones. */
  connect(settings?: Readonly<Record<string, string>>): Promise<DedicatedConnection>
  /** The server's version as PostgreSQL counts: 180004 is 18.4. */
  readonly serverVersion: number
  /** Waits for what is running in the pool; ends the connections of `connect` at once. */
  close(): Promise<void>
}

export interface DatabaseOptions {
  maxReaders: number
  /** For the pool only; 0 is no limit. */
  statementTimeoutMs: number
}

type Settings = Readonly<Record<string, string>>

/** What parsing relies on, and no JIT: on 14–17 the penalty of a disabled plan can trigger it. */
const COMMON_SETTINGS: Settings = {
  application_name: 'agentgate',
  datestyle: 'ISO',
  timezone: 'UTC',
  jit: 'off',
}

const CONNECT_TIMEOUT_MS = 10_000
const OLDEST_SERVER_VERSION = 150_000

const parseInt8 = (text: string): number | bigint => {
  const number = Number(text)
  return Number.isSafeInteger(number) ? number : BigInt(text)
}

const INT8_ARRAY: number = 1016
const parseInt8Texts: (text: string) => (string | null)[] = pg.types.getTypeParser(INT8_ARRAY, 'text')
const parseInt8Array = (text: string): (number | bigint | null)[] =>
  parseInt8Texts(text).map((member) => (member === null ? null : parseInt8(member)))

/** Parsers of our own connections; the driver's global table stays as it is. */
const TYPES: pg.CustomTypesConfig = {
  getTypeParser: (oid: number, format?: 'text' | 'binary') => {
    if (format !== 'binary' && oid === pg.types.builtins.INT8) return parseInt8
    if (format !== 'binary' && oid === INT8_ARRAY) return parseInt8Array
    return pg.types.getTypeParser(oid, format ?? 'text')
  },
}

/**
 * Connects, and refuses a server older than PostgreSQL 15 and a transaction pooler (`GateError` INVALID_VALUE).
 * Throws `DatabaseError` when there is no server.
 */
export async function openDatabase(
  target: string | SocketAddress,
  options: DatabaseOptions,
): Promise<Database> {
  const serverVersion = await examineServer(target)
  return new PooledDatabase(target, options, serverVersion)
}

function clientConfig(target: string | SocketAddress): pg.ClientConfig {
  const address = typeof target === 'string' ? { connectionString: target } : { ...target, ssl: false }
  return { ...address, types: TYPES, keepAlive: true, connectionTimeoutMillis: CONNECT_TIMEOUT_MS }
}

async function wrapErrors<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw asDatabaseError(error)
  }
}

const applySettings = (client: pg.ClientBase, settings: Settings): Promise<unknown> =>
  client.query(
    'select set_config(name, value, false) from unnest($1::text[], $2::text[]) as s (name, value)',
    [Object.keys(settings), Object.values(settings)],
  )

type Queryable = Pick<pg.ClientBase, 'query'> | Pick<pg.Pool, 'query'>

function runStatement<Row extends object>(
  on: Queryable,
  statement: string | NamedStatement,
  values: readonly unknown[],
): Promise<Row[]> {
  const query =
    typeof statement === 'string'
      ? { text: statement, values: [...values] }
      : { name: statement.name, text: statement.text, values: [...values] }
  return wrapErrors(async () => (await on.query(query)).rows)
}

/** Rolls back after any failure; what the rollback itself says is less telling than what made it necessary. */
async function transact<T>(client: pg.ClientBase, work: (tx: Tx) => Promise<T>): Promise<T> {
  const tx: Tx = {
    [INSIDE]: true,
    query: (statement, values = []) => runStatement(client, statement, values),
  }
  await wrapErrors(() => client.query('begin'))
  let result: T
  try {
    result = await work(tx)
  } catch (error) {
    await client.query('rollback').catch(() => 'the connection is lost, and the transaction with it')
    throw error
  }
  // COMMIT of a transaction that has met an error answers ROLLBACK and is no error to PostgreSQL.
  const { command } = await wrapErrors(() => client.query('commit'))
  if (command !== 'COMMIT') {
    throw new DatabaseError(new Error('The transaction was rolled back: one of its statements had failed.'))
  }
  return result
}

class PooledDatabase implements Database {
  readonly serverVersion: number
  readonly #target: string | SocketAddress
  readonly #pool: pg.Pool
  readonly #dedicated = new Set<DedicatedConnection>()

  constructor(target: string | SocketAddress, options: DatabaseOptions, serverVersion: number) {
    const settings = { ...COMMON_SETTINGS, statement_timeout: String(options.statementTimeoutMs) }
    this.serverVersion = serverVersion
    this.#target = target
    this.#pool = new pg.Pool({
      ...clientConfig(target),
      max: options.maxReaders,
      verify: (client, done) => {
        applySettings(client, settings).then(() => done(), done)
      },
    })
    // An idle connection that dies leaves the pool by itself; whoever asks next gets a new one, or its error.
    this.#pool.on('error', () => undefined)
    // One that dies in other hands fails its query, too; between them nobody listens, and the process would end.
    this.#pool.on('connect', (client) => client.on('error', () => undefined))
  }

  query<Row extends object>(statement: string | NamedStatement, values: readonly unknown[] = []) {
    return runStatement<Row>(this.#pool, statement, values)
  }

  async inTransaction<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    const client = await wrapErrors(() => this.#pool.connect())
    // Without a listener, a connection that dies between two statements would end the process.
    let lost: Error | undefined
    const onError = (error: Error): void => {
      lost = error
    }
    client.on('error', onError)
    try {
      return await transact(client, work)
    } finally {
      client.off('error', onError)
      client.release(lost)
    }
  }

  async connect(settings: Settings = {}): Promise<DedicatedConnection> {
    const connection = await openConnection(this.#target, settings)
    this.#dedicated.add(connection)
    connection.onEnd(() => this.#dedicated.delete(connection))
    return connection
  }

  async close(): Promise<void> {
    await Promise.all([...this.#dedicated].map((connection) => connection.close()))
    this.#dedicated.clear()
    if (!this.#pool.ending) await this.#pool.end()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** A connection of its own, outside any pool; `openDatabase` has not looked at the server. */
export async function openConnection(
  target: string | SocketAddress,
  settings: Settings = {},
): Promise<DedicatedConnection> {
  const client = new pg.Client(clientConfig(target))
  const connection = new ClientConnection(client)
  return wrapErrors(async () => {
    await client.connect()
    try {
      await applySettings(client, { ...COMMON_SETTINGS, ...settings })
      const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
      connection.backendPid = rows[0]?.pid ?? 0
    } catch (error) {
      await connection.close()
      throw error
    }
    return connection
  })
}

class ClientConnection implements DedicatedConnection {
  backendPid = 0
  readonly #client: pg.Client
  #isClosing = false
  #lost: DatabaseError | undefined
  readonly #endListeners: ((error: DatabaseError) => void)[] = []

  constructor(client: pg.Client) {
    this.#client = client
    client.on('error', (error) => this.#end(error))
    client.on('end', () => this.#end(new Error('Connection terminated')))
  }

  query<Row extends object>(statement: string | NamedStatement, values: readonly unknown[] = []) {
    return runStatement<Row>(this.#client, statement, values)
  }

  inTransaction<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    return transact(this.#client, work)
  }

  onNotification(listener: (channel: string, payload: string) => void): void {
    this.#client.on('notification', (message) => listener(message.channel, message.payload ?? ''))
  }

  onEnd(listener: (error: DatabaseError) => void): void {
    if (this.#lost) listener(this.#lost)
    else this.#endListeners.push(listener)
  }

  async close(): Promise<void> {
    this.#isClosing = true
    await this.#client.end().catch(() => 'it was lost already')
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #end(error: Error): void {
    if (this.#isClosing || this.#lost) return
    this.#lost = asDatabaseError(error)
    for (const listener of this.#endListeners) listener(this.#lost)
  }
}

/** The version of the server at `target`, after making sure that this code can run on it. */
async function examineServer(target: string | SocketAddress): Promise<number> {
  await using first = await openConnection(target)
  const [server] = await first.query<{ version: number; name: string }>(
    "select current_setting('server_version_num')::int as version, current_setting('server_version') as name",
  )
  const version = server?.version ?? 0
  if (version < OLDEST_SERVER_VERSION) {
    throw new GateError('INVALID_VALUE', `PostgreSQL ${server?.name} is too old for AgentGate.`, {
      hint: 'Use PostgreSQL 15 or newer.',
    })
  }
  await using second = await openConnection(target)
  if (await sharesBackends(first, second)) {
    throw new GateError('INVALID_VALUE', 'DATABASE_URL leads to a transaction pooler.', {
      hint: 'Advisory locks, LISTEN and prepared statements need sessions: name PostgreSQL itself, or a session pool.',
    })
  }
  return version
}

/**
 * Two sessions of PostgreSQL have two backends for as long as they live. A transaction pooler lends a backend per
 * transaction: it gives both the same one, or one of them another when the first is taken.
 */
async function sharesBackends(first: DedicatedConnection, second: DedicatedConnection): Promise<boolean> {
  const backendOf = async (db: Db): Promise<number> =>
    (await db.query<{ pid: number }>('select pg_backend_pid() as pid'))[0]?.pid ?? 0
  const ofFirst = new Set([first.backendPid, await backendOf(first), await backendOf(first)])
  const ofSecond = await second.inTransaction(async (tx) => {
    ofFirst.add(await backendOf(first))
    return new Set([second.backendPid, await backendOf(tx)])
  })
  return new Set([...ofFirst, ...ofSecond]).size !== 2 || ofFirst.size !== 1
}
