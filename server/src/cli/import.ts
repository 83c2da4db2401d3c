import { access } from 'node:fs/promises'
import { readConfig } from '../config.ts'
import { notFound } from '../domain/error.ts'
import { databaseClock } from '../storage/database-clock.ts'
import { importDatabase } from '../storage/import.ts'
import { MIGRATIONS, migrate } from '../storage/migrate.ts'
import type { Context } from './context.ts'
import { openDataDatabase } from './data-database.ts'
import { makeDataFolder, refuseForeignFolder } from './data-folder.ts'
import { EXIT } from './failure.ts'

export async function importFrom({ environment, terminal }: Context, file: string): Promise<number> {
  const config = readConfig(environment)
  refuseForeignFolder(config.dataDir)
  await access(file).catch(() => {
    throw notFound(`The file ${file}`)
  })
  await makeDataFolder(config.dataDir)
  await using opened = await openDataDatabase(config, { mayJoin: false })
  const { database } = opened
  await migrate(database, MIGRATIONS)
  const clock = await databaseClock(database)
  const { rows, epoch, masterKeyId } = await importDatabase(database, file, new Date(clock.now()))
  terminal.say(`${rows} rows were read from ${file}; the log is in epoch ${epoch}.`)
  terminal.say(
    `Start with the master key ${masterKeyId}: AGENTGATE_MASTER_KEY, or master.key of the data folder.`,
  )
  return EXIT.ok
}
