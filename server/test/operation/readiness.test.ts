import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { startApp } from '../../src/app.ts'
import { readConfig } from '../../src/config.ts'
import { openDatabase } from '../../src/storage/database.ts'
import { asked } from '../harness/door.ts'
import { startGate } from '../harness/gate.ts'
import { provideTestDatabase } from '../harness/postgres.ts'

test('a database that may lose what it acknowledged is named at start and by readyz', async () => {
  const lines: string[] = []
  const log = pino({ level: 'warn' }, { write: (line: string) => lines.push(line) })
  // Test servers run without fsync.
  await using gate = await startGate({ effects: { log } })
  expect(lines.join('')).toContain('fsync is off')
  const ready = await asked(`${gate.url}/readyz`, {})
  expect(ready.status).toBe(200)
  expect(ready.json.warnings).toContainEqual(expect.stringContaining('fsync is off'))
})

test('a database of a newer release is refused before anything is written', async () => {
  const url = await provideTestDatabase()
  await using database = await openDatabase(url, { maxReaders: 1, statementTimeoutMs: 0 })
  await database.query(
    `insert into migration select 99, '0099_later.sql', 'x', applied_at from migration limit 1`,
  )
  const dataDir = await mkdtemp(join('/var/tmp', 'agentgate-newer-'))
  const config = readConfig({
    PORT: '0',
    DATABASE_URL: url,
    AGENTGATE_DATA_DIR: dataDir,
    AGENTGATE_MASTER_KEY: Buffer.alloc(32, 7).toString('base64'),
  })
  const effects = { log: pino({ level: 'silent' }), pause: async () => undefined, random: Math.random }
  await expect(startApp(config, { ...effects, lifetime: 'with-parent' })).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining('schema 99'),
    hint: expect.stringContaining('newer release'),
  })
  expect(await database.query('select from installation')).toEqual([])
  await rm(dataDir, { recursive: true })
})
