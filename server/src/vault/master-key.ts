import { randomUUID } from 'node:crypto'
import { link, open, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Secret } from '../lib/secret.ts'
import { mintMasterKey, parseMasterKey } from './vault.ts'

const FILE = 'master.key'

/**
 * The master key of an embedded gateway, made at the first start: `master.key` (0600) in the data folder. A key that is
 * there is never replaced, whatever is wrong with it: everything sealed depends on it. Throws `GateError` INVALID_FORMAT
 * when it is damaged.
 */
export async function loadMasterKey(dataDir: string): Promise<Secret> {
  const path = join(dataDir, FILE)
  const present = await findMasterKey(dataDir)
  if (present !== undefined) return present
  await writeOnce(dataDir, path, `${mintMasterKey().reveal()}\n`)
  return parseMasterKey(await readFile(path, 'utf8'))
}

/** The one that is there already; makes nothing. */
export async function findMasterKey(dataDir: string): Promise<Secret | undefined> {
  const text = await readFile(join(dataDir, FILE), 'utf8').catch((error: unknown) => {
    if (isError(error, 'ENOENT')) return undefined
    throw error
  })
  return text === undefined ? undefined : parseMasterKey(text)
}

/** All or nothing, also when the power fails; of two processes that start at once, the first one's file stays. */
async function writeOnce(dataDir: string, path: string, text: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`
  try {
    await write(aside, text)
    await link(aside, path)
  } catch (error) {
    if (!isError(error, 'EEXIST')) throw error
  } finally {
    await rm(aside, { force: true })
  }
  await using folder = await open(dataDir)
  await folder.sync()
}

async function write(path: string, text: string): Promise<void> {
  await using file = await open(path, 'wx', 0o600)
  await file.writeFile(text)
  await file.sync()
}

const isError = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code
