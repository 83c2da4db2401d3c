import { readConfig } from '../config.ts'
import { databaseClock } from '../storage/database-clock.ts'
import { exportDatabase } from '../storage/export.ts'
import type { Context } from './context.ts'
import { openDataDatabase } from './data-database.ts'
import { refuseForeignFolder } from './data-folder.ts'
import { EXIT } from './failure.ts'

export async function exportTo({ environment, terminal }: Context, file: string): Promise<number> {
  const config = readConfig(environment)
  refuseForeignFolder(config.dataDir)
  await using opened = await openDataDatabase(config, { mayJoin: true })
  const { database } = opened
  const clock = await databaseClock(database)
  const { rows, masterKeyId } = await exportDatabase(database, file, new Date(clock.now()))
  terminal.say(`${rows} rows are in ${file}.`)
  terminal.say(
    `Its secrets are sealed with the master key ${masterKeyId}, which is not in the file: keep it too.`,
  )
  return EXIT.ok
}
