import type { Db } from './database.ts'

/** What an operator should know about a server that may lose what it has acknowledged; empty where it does not. */
export async function durabilityWarnings(db: Db): Promise<string[]> {
  const off = await db.query<{ name: string }>(
    `select name from pg_settings where name in ('fsync', 'synchronous_commit') and setting = 'off' order by name`,
  )
  return off.map(({ name }) => `${name} is off: the database may lose what it has acknowledged.`)
}
