import pg from 'pg'

/** The statement may well succeed when it is run again from the start: races, locks, a server that goes or comes. */
const TRANSIENT = new Set(['40001', '40P01', '55P03', '53300'])

/** The session is gone, or there never was one: class 08, shutdowns (57P01, 57P02) and a server that is starting. */
const LOST = /^(?:08...|57P0[1235])$/

const LOST_SOCKET = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EPIPE',
  'ETIMEDOUT',
])

/** What the driver says, without a code, when its connection is gone or cannot be had in time. */
const LOST_WORDS =
  /^Connection terminated|^Client has encountered a connection error|^Client was closed|^timeout exceeded when trying to connect|^timeout expired/

/** What PostgreSQL or the way to it refused; every error of the driver is wrapped into one of these, once. */
export class DatabaseError extends Error {
  override readonly name = 'DatabaseError'
  /** Five characters, as in PostgreSQL's appendix A; undefined when the server never answered. */
  readonly sqlState: string | undefined
  /** The constraint that refused the row, if one did. */
  readonly constraint: string | undefined
  /** No answer came: a commit under way may or may not have happened. */
  readonly isConnectionLost: boolean
  /** Worth another try from the start of the transaction. */
  readonly isTransient: boolean

  constructor(cause: Error) {
    super(cause.message, { cause })
    const answer = cause instanceof pg.DatabaseError ? cause : undefined
    this.sqlState = answer?.code
    this.constraint = answer?.constraint
    this.isConnectionLost =
      this.sqlState === undefined ? isLostWithoutAnswer(cause) : LOST.test(this.sqlState)
    this.isTransient = this.isConnectionLost || TRANSIENT.has(this.sqlState ?? '')
  }
}

function isLostWithoutAnswer(cause: Error): boolean {
  const code = 'code' in cause ? String(cause.code) : ''
  return LOST_SOCKET.has(code) || LOST_WORDS.test(cause.message)
}

export const asDatabaseError = (thrown: unknown): DatabaseError =>
  thrown instanceof DatabaseError
    ? thrown
    : new DatabaseError(thrown instanceof Error ? thrown : new Error(String(thrown)))
