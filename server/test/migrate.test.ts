import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { type Database, openDatabase } from '../src/storage/database.ts'
import { migrate, schemaVersion } from '../src/storage/migrate.ts'
import { dumpSchema } from '../src/storage/schema-dump.ts'
import { provideEmptyDatabase } from './harness/postgres.ts'

const folders: string[] = []
const databases: Database[] = []

afterAll(async () => {
  for (const database of databases) await database.close()
  for (const folder of folders) await rm(folder, { recursive: true })
})

async function emptyDatabase(): Promise<Database> {
  const database = await openDatabase(await provideEmptyDatabase(), { maxReaders: 4, statementTimeoutMs: 0 })
  databases.push(database)
  return database
}

async function folderOf(files: Record<string, string>): Promise<URL> {
  const folder = await mkdtemp(join(tmpdir(), 'agentgate-migrate-'))
  folders.push(folder)
  for (const [name, sql] of Object.entries(files)) await writeFile(join(folder, name), sql)
  return pathToFileURL(`${folder}/`)
}

const FIRST = { '0001_first.sql': 'create table a (id int); create table b (id int);' }
const BOTH = { ...FIRST, '0002_second.sql': 'alter table a add column name text;' }

test('migrations are applied in order, each once', async () => {
  const database = await emptyDatabase()
  expect(await schemaVersion(database)).toBe(0)

  expect(await migrate(database, await folderOf(FIRST))).toEqual(['0001_first.sql'])
  expect(await migrate(database, await folderOf(BOTH))).toEqual(['0002_second.sql'])
  expect(await migrate(database, await folderOf(BOTH))).toEqual([])

  expect(await schemaVersion(database)).toBe(2)
  expect(await database.query('select id, name from a')).toEqual([])
})

test('processes that start together apply a migration once', async () => {
  const database = await emptyDatabase()
  const folder = await folderOf(BOTH)

  const applied = await Promise.all([1, 2, 3].map(() => migrate(database, folder)))

  expect(applied.flat()).toEqual(['0001_first.sql', '0002_second.sql'])
})

test('a migration that fails leaves nothing behind and is named', async () => {
  const database = await emptyDatabase()
  const folder = await folderOf({ ...FIRST, '0002_bad.sql': 'create table c (id int); select 1 / 0;' })

  await expect(migrate(database, folder)).rejects.toMatchObject({
    code: 'SERVICE_UNAVAILABLE',
    message: expect.stringMatching(/0002_bad\.sql.*division by zero/),
  })

  expect(await schemaVersion(database)).toBe(1)
  expect(await database.query("select to_regclass('c') as c")).toEqual([{ c: null }])
})

test('a schema newer than the release is refused', async () => {
  const database = await emptyDatabase()
  await migrate(database, await folderOf(BOTH))

  await expect(migrate(database, await folderOf(FIRST))).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining('schema 2'),
    hint: expect.stringContaining('newer release'),
  })
})

test('a migration that has changed since it was applied is refused', async () => {
  const database = await emptyDatabase()
  await migrate(database, await folderOf(FIRST))
  const changed = await folderOf({ '0001_first.sql': 'create table a (id bigint);' })

  await expect(migrate(database, changed)).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining('0001_first.sql'),
  })
})

test('a gap in the numbers is our own mistake', async () => {
  const folder = await folderOf({ ...FIRST, '0003_third.sql': 'select 1' })

  await expect(migrate(await emptyDatabase(), folder)).rejects.toThrow('0003_third.sql')
})

test('the schema reads the same on every PostgreSQL', async () => {
  const database = await emptyDatabase()
  await database.query(`
    create table parent (id text primary key check (id like 'par\\_%'), at timestamptz not null) with (fillfactor = 70);
    create table event (
      parent_id text not null references parent on delete cascade,
      n         bigint generated always as identity,
      at        timestamptz not null,
      note      text collate "C" default 'none',
      twice     bigint generated always as (1 + 1) stored,
      tags      text[] not null default '{}',
      data      bytea,
      constraint event_once unique (parent_id, at)
    ) partition by range (at);
    create table event_2026 partition of event for values from ('2026-01-01 00:00+00') to ('2027-01-01 00:00+00');
    create table event_rest partition of event default;
    alter table event alter column data set storage external;
    create index event_note on event (note) where note is not null;`)

  expect(await dumpSchema(database)).toBe(`\
table event partition by RANGE (at)
  parent_id text not null
  n bigint not null generated always as identity
  at timestamp with time zone not null
  note text collate "C" default 'none'::text
  twice bigint generated stored as (1 + 1)
  tags text[] not null default '{}'::text[]
  data bytea storage e
  constraint event_once UNIQUE (parent_id, at)
  constraint event_parent_id_fkey FOREIGN KEY (parent_id) REFERENCES parent(id) ON DELETE CASCADE
  CREATE INDEX event_note ON ONLY event USING btree (note) WHERE (note IS NOT NULL)

table event_2026 partition of event FOR VALUES FROM ('2026-01-01 00:00:00+00') TO ('2027-01-01 00:00:00+00')

table event_rest partition of event DEFAULT

table parent with (fillfactor=70)
  id text not null
  at timestamp with time zone not null
  constraint parent_id_check CHECK ((id ~~ 'par\\_%'::text))
  constraint parent_pkey PRIMARY KEY (id)
`)
})
