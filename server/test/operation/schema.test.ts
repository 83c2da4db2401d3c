import { readFile, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { openDatabase } from '../../src/storage/database.ts'
import { dumpSchema } from '../../src/storage/schema-dump.ts'
import { provideTestDatabase } from '../harness/postgres.ts'

const COMMITTED = new URL('../schema.sql', import.meta.url)

/** After a new migration: `AGENTGATE_TEST_UPDATE=1 npx vitest run server/test/operation/schema.test.ts`, and read the difference. */
test('the migrations make the schema that server/test/schema.sql shows, on every PostgreSQL', async () => {
  await using database = await openDatabase(await provideTestDatabase(), {
    maxReaders: 1,
    statementTimeoutMs: 0,
  })
  const schema = await dumpSchema(database)
  if (process.env['AGENTGATE_TEST_UPDATE']) await writeFile(COMMITTED, schema)
  expect(schema).toBe(await readFile(COMMITTED, 'utf8'))
})
