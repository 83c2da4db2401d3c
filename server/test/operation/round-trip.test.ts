import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startApp } from '../../src/app.ts'
import { readConfig } from '../../src/config.ts'
import { putBlob } from '../../src/storage/blobs.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { exportDatabase, LEFT_OUT, TABLES } from '../../src/storage/export.ts'
import { importDatabase } from '../../src/storage/import.ts'
import { verifyDatabase } from '../../src/storage/verify.ts'
import { asked } from '../harness/door.ts'
import { type Gate, startGate } from '../harness/gate.ts'
import { provideTestDatabase } from '../harness/postgres.ts'

let gate: Gate
let folder: string
let file: string
const opened: Database[] = []

beforeAll(async () => {
  gate = await startGate()
  folder = await mkdtemp(join(tmpdir(), 'agentgate-export-'))
  file = join(folder, 'all.gz')
  const created = await Promise.all(
    Array.from({ length: 8 }, (_, n) =>
      gate.client.runs.create({ agent: 'scripted', input: `Grüße ${n} "\\ \u{1f600}`, metadata: { n } }),
    ),
  )
  for (const run of created) await gate.client.runs.wait(run.id)
  await gate.client.gitCredentials.create({
    host: 'git.test',
    kind: 'token',
    use: 'read',
    secret: 'hidden-token',
  })
  await putBlob(gate.app.database, Buffer.alloc(600_000, 3), { mediaType: 'text/plain', at: new Date() })
  await exportDatabase(gate.app.database, file, new Date())
})

afterAll(async () => {
  for (const database of opened) await database.close()
  await gate[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

async function newDatabase(): Promise<Database> {
  const database = await openDatabase(await provideTestDatabase(), { maxReaders: 2, statementTimeoutMs: 0 })
  opened.push(database)
  return database
}

/** A hash of each table's rows, whatever their order. */
async function rowHashes(database: Database): Promise<Record<string, unknown>> {
  const hashes: Record<string, unknown> = {}
  for (const table of TABLES) {
    const row = table === 'installation' ? `(to_jsonb(t) - 'epoch')` : 'to_jsonb(t)'
    const [hash] = await database.query(
      `select count(*)::int as rows, md5(coalesce(string_agg(line, '' order by line collate "C"), '')) as hash
        from (select ${row}::text as line from ${table} t) as lines`,
    )
    hashes[table] = hash
  }
  return hashes
}

/** A file with other lines, and a checksum that is right unless `lines` made it wrong. */
async function changedFile(name: string, change: (lines: string[]) => string[]): Promise<string> {
  const lines = gunzipSync(await readFile(file))
    .toString('utf8')
    .trimEnd()
    .split('\n')
  const path = join(folder, name)
  await writeFile(path, gzipSync(`${change(lines).join('\n')}\n`))
  return path
}

const headerWith = (lines: string[], change: object): string[] => [
  JSON.stringify({ ...JSON.parse(lines[0] ?? ''), ...change }),
  ...lines.slice(1),
]

async function expectNothing(database: Database): Promise<void> {
  const [row] = await database.query(
    'select (select count(*) from run)::int as runs, (select count(*) from installation)::int as installations',
  )
  expect(row).toEqual({ runs: 0, installations: 0 })
}

test('every table is either in an export or belongs to a server', async () => {
  const rows = await gate.app.database.query<{ name: string }>(
    `select c.relname as name from pg_class c
      where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p') and not c.relispartition`,
  )
  expect(new Set(rows.map(({ name }) => name))).toEqual(new Set([...TABLES, ...LEFT_OUT]))
})

test('what is imported is what was exported, row by row, in a new epoch of the log', async () => {
  const database = await newDatabase()
  const imported = await importDatabase(database, file, new Date())
  expect(imported.epoch).toBe(2)
  expect(await rowHashes(database)).toEqual(await rowHashes(gate.app.database))
  const findings = []
  for await (const finding of verifyDatabase(database)) findings.push(finding)
  expect(findings).toEqual([])
})

test('a gateway goes on from an import with the keys of before', async () => {
  const url = await provideTestDatabase()
  const database = await openDatabase(url, { maxReaders: 1, statementTimeoutMs: 0 })
  await importDatabase(database, file, new Date())
  await database.close()
  const config = readConfig({
    PORT: '0',
    DATABASE_URL: url,
    AGENTGATE_DATA_DIR: join(folder, 'data'),
    AGENTGATE_MASTER_KEY: Buffer.alloc(32, 7).toString('base64'),
    AGENTGATE_JAIL_SLOTS: '1',
  })
  await using app = await startApp(config, {
    log: pino({ level: 'silent' }),
    pause: async () => undefined,
    random: Math.random,
    lifetime: 'with-parent',
  })
  expect(app.firstSecrets).toBeNull()
  const key = gate.liveKey
  const listed = await asked(`${app.url}/v1/runs`, { key })
  expect(listed.json.total).toBe(8)
  const body = { agent: 'scripted', input: 'again' }
  const headers = { prefer: 'wait=10' }
  const run = await asked(`${app.url}/v1/runs`, { method: 'POST', key, body, headers })
  expect(run.json.state).toBe('completed')
})

test('the file holds no secret in the open, and nobody else may read it', async () => {
  const text = gunzipSync(await readFile(file)).toString('utf8')
  expect(text).not.toContain('hidden-token')
  expect(text).not.toContain(Buffer.from('hidden-token').toString('hex'))
  expect(text).not.toContain(gate.liveKey)
  expect((await stat(file)).mode & 0o777).toBe(0o600)
})

test('a file that is there is not written over', async () => {
  await expect(exportDatabase(gate.app.database, file, new Date())).rejects.toMatchObject({
    code: 'CONFLICT',
  })
})

test('a database with runs is left alone', async () => {
  await expect(importDatabase(gate.app.database, file, new Date())).rejects.toMatchObject({
    code: 'CONFLICT',
  })
})

const DAMAGES: Record<string, (lines: string[]) => string[]> = {
  'a row that was changed': (lines) =>
    lines.map((line) => (line.startsWith('["run",') ? line.replace('completed', 'canceled') : line)),
  'a row that is missing': (lines) =>
    lines.filter((line, n) => n !== lines.findIndex((l) => l.startsWith('["step"'))),
  'a file without its end': (lines) => lines.slice(0, -1),
  'a line that is no row': (lines) => [...lines.slice(0, 3), '["run"', ...lines.slice(3)],
  'a table that does not exist': (lines) => [...lines.slice(0, 3), '["pg_class",{}]', ...lines.slice(3)],
  'a column that does not exist': (lines) => headerWith(lines, { columns: { run: ['id) select 1; --'] } }),
  'a month that is none': (lines) => headerWith(lines, { months: ["2026-01'); drop table run; --"] }),
  'something behind the end': (lines) => [...lines, lines[1] ?? ''],
}

for (const [damage, change] of Object.entries(DAMAGES)) {
  test(`${damage}: refused, and nothing is imported`, async () => {
    const database = await newDatabase()
    const path = await changedFile(`${damage}.gz`, change)
    await expect(importDatabase(database, path, new Date())).rejects.toMatchObject({
      code: 'INVALID_FORMAT',
      hint: expect.stringContaining('nothing was imported'),
    })
    await expectNothing(database)
  })
}

test('a file that was cut off is refused, and nothing is imported', async () => {
  const database = await newDatabase()
  const path = join(folder, 'cut.gz')
  const whole = await readFile(file)
  await writeFile(path, whole.subarray(0, whole.length - 200))
  await expect(importDatabase(database, path, new Date())).rejects.toMatchObject({ code: 'INVALID_FORMAT' })
  await expectNothing(database)
})

test('a file of a newer schema is refused by name', async () => {
  const database = await newDatabase()
  const path = await changedFile('newer.gz', (lines) => headerWith(lines, { schema: 9_999 }))
  await expect(importDatabase(database, path, new Date())).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining('9999'),
  })
  await expectNothing(database)
})
