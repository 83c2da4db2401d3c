import type { Config } from '../../config.ts'
import { schemaVersion } from '../../storage/migrate.ts'
import { verifyDatabase } from '../../storage/verify.ts'
import { openDataDatabase } from '../data-database.ts'
import { refuseForeignFolder } from '../data-folder.ts'
import { type Finding, ok, problem } from './finding.ts'

/** More than these say nothing new, and a broken database may have millions. */
const SHOWN = 100

/** Holds a database against the invariants of ARCHITECTURE.md, also while a gateway works on it. */
export async function examineInvariants(config: Config): Promise<Finding[]> {
  refuseForeignFolder(config.dataDir)
  await using opened = await openDataDatabase(config, { mayJoin: true })
  if ((await schemaVersion(opened.database)) === 0) return [ok('invariants', 'there is no data yet')]
  const findings: Finding[] = []
  for await (const { invariant, subject, sentence } of verifyDatabase(opened.database)) {
    findings.push(problem(`invariant ${invariant}`, `${subject}: ${sentence}`))
    if (findings.length === SHOWN) break
  }
  return findings.length > 0
    ? findings
    : [ok('invariants', 'every run is what its events make of it, and the money adds up')]
}
