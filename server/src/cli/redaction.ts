import { readConfig } from '../config.ts'
import { GateError, notFound } from '../domain/error.ts'
import type { Redaction } from '../lib/redact.ts'
import { listOrganizations, type OrganizationRow, updateRedaction } from '../storage/organizations.ts'
import { type Context, print } from './context.ts'
import { openDataDatabase } from './data-database.ts'
import { refuseForeignFolder } from './data-folder.ts'
import { EXIT } from './failure.ts'

/** Shows the setting, or changes it for the runs that workers take up from a few seconds later on. */
export async function redactionOf(
  context: Context,
  redaction: Redaction | undefined,
  { organization, json }: { organization?: string; json?: true },
): Promise<number> {
  const config = readConfig(context.environment)
  refuseForeignFolder(config.dataDir)
  await using opened = await openDataDatabase(config, { mayJoin: true })
  const { database } = opened
  const { id, redaction: before } = theOne(await listOrganizations(database), organization)
  if (redaction !== undefined) await updateRedaction(database, id, redaction)
  const now = { organization: id, redaction: redaction ?? before }
  print(context, now, { json, lines: () => [now.redaction] })
  return EXIT.ok
}

function theOne(all: readonly OrganizationRow[], id: string | undefined): OrganizationRow {
  const [found, ...others] = id === undefined ? all : all.filter((one) => one.id === id)
  if (found === undefined) throw notFound(`The organisation ${id ?? ''}`.trim())
  if (others.length === 0) return found
  throw new GateError('MISSING_FIELD', 'There are several organisations.', {
    hint: `Name one with --organization: ${all.map((one) => one.id).join(', ')}.`,
  })
}
