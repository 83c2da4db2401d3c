import { join } from 'node:path'
import type { Config } from '../../config.ts'
import type { Secret } from '../../lib/secret.ts'
import { openDatabase } from '../../storage/database.ts'
import { findClusterOf } from '../../storage/embedded-folder.ts'
import { joinEmbeddedPostgres } from '../../storage/embedded-guest.ts'
import { findInstallation } from '../../storage/installation.ts'
import { schemaVersion } from '../../storage/migrate.ts'
import { findMasterKey } from '../../vault/master-key.ts'
import { createVault } from '../../vault/vault.ts'
import { type Finding, ok, problem } from './finding.ts'

const NAME = 'master key'
const REMEDY = 'Bring the original back: master.key of the data folder, or AGENTGATE_MASTER_KEY.'

type Place = Pick<Config, 'masterKey' | 'dataDir' | 'databaseUrl'>

/** Whether the key is there and whole, and is the one that the database was sealed with. */
export async function examineMasterKey(place: Place): Promise<Finding> {
  let key: Secret | undefined
  try {
    key = place.masterKey ?? (await findMasterKey(place.dataDir))
    if (key === undefined && (await findClusterOf(folderOf(place))) !== undefined) {
      return problem(NAME, `${place.dataDir} has a database, and its master.key is gone`, REMEDY)
    }
  } catch (error) {
    return problem(NAME, error instanceof Error ? error.message : String(error), REMEDY)
  }
  if (key === undefined) return ok(NAME, 'the first start makes it')
  const { keyId } = createVault({ masterKey: key })
  const sealedWith = await findSealingKeyId(place).catch(() => 'unknown' as const)
  if (sealedWith === 'unknown') return ok(NAME, `${keyId}; no database was there to compare it with`)
  return sealedWith === undefined || sealedWith === keyId
    ? ok(NAME, keyId)
    : problem(NAME, `${keyId} is not the one that the database was sealed with (${sealedWith})`, REMEDY)
}

/** Nothing where no start has sealed anything yet. An embedded database is asked only while it runs. */
async function findSealingKeyId(place: Place): Promise<string | undefined> {
  const target = place.databaseUrl?.reveal() ?? (await joinEmbeddedPostgres(folderOf(place)))
  await using database = await openDatabase(target, { maxReaders: 1, statementTimeoutMs: 5_000 })
  return (await schemaVersion(database)) === 0 ? undefined : (await findInstallation(database))?.masterKeyId
}

const folderOf = ({ dataDir }: Place): string => join(dataDir, 'postgresql')
