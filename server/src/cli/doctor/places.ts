import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Config } from '../../config.ts'
import { GateError } from '../../domain/error.ts'
import { openDatabase } from '../../storage/database.ts'
import { startEmbeddedPostgres } from '../../storage/embedded-postgres.ts'
import { localUrl } from '../connection.ts'
import { type Finding, ok, problem, warning } from './finding.ts'
import { makeOpenFolder } from './folders.ts'

const ANSWER_WITHIN_MS = 2_000

/** Whether the server could listen; a gateway that does already is no problem. */
export async function examinePort(config: Pick<Config, 'host' | 'port'>): Promise<Finding> {
  const { host, port } = config
  const place = `${host}:${port}`
  const server = createServer()
  try {
    server.listen({ host, port, exclusive: true })
    await once(server, 'listening')
    server.close()
    return ok('port', port === 0 ? 'a free one is taken' : `${place} is free`)
  } catch (error) {
    if (await isGateway(localUrl(config))) return ok('port', `a gateway answers on ${place}`)
    const reason = error instanceof Error ? error.message : String(error)
    return problem('port', `${place} cannot be listened on: ${reason}`, 'Name another one in PORT, or 0.')
  }
}

async function isGateway(url: string): Promise<boolean> {
  try {
    const answer = await fetch(`${url}/version`, { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) })
    const body: unknown = await answer.json()
    return typeof body === 'object' && body !== null && 'version' in body
  } catch {
    return false
  }
}

/** An embedded one is tried in a folder of its own, which is made in `parent`. */
export const examineDatabase = (
  { databaseUrl }: Pick<Config, 'databaseUrl'>,
  parent?: string,
): Promise<Finding> => (databaseUrl === null ? tryEmbedded(parent) : tryDatabase(databaseUrl.reveal()))

async function tryDatabase(url: string): Promise<Finding> {
  const name = 'database'
  try {
    await using database = await openDatabase(url, { maxReaders: 1, statementTimeoutMs: 5_000 })
    return ok(name, `PostgreSQL ${Math.floor(database.serverVersion / 10_000)} answers`)
  } catch (error) {
    const hint = error instanceof GateError ? error.hint : undefined
    const reason = error instanceof Error ? error.message : String(error)
    return problem(
      name,
      `DATABASE_URL does not work: ${reason}`,
      hint ?? 'Mend DATABASE_URL, or start that server.',
    )
  }
}

async function tryEmbedded(parent?: string): Promise<Finding> {
  const name = 'embedded database'
  try {
    await using folder = await makeOpenFolder(parent)
    await using postgres = await startEmbeddedPostgres({
      dataDir: join(folder.path, 'postgresql'),
      log: () => undefined,
      lifetime: 'with-parent',
    })
    return ok(name, `PostgreSQL ${postgres.version} starts`)
  } catch (error) {
    const hint = error instanceof GateError ? error.hint : undefined
    return problem(name, error instanceof Error ? error.message : String(error), hint)
  }
}

/** Names, never values. */
export function examineProviders({ providers, models }: Pick<Config, 'providers' | 'models'>): Finding {
  const names = Object.keys(providers).filter((name) => name !== 'openai-chat')
  const known = models.filter((model) => Object.hasOwn(providers, model.slice(0, model.indexOf('/'))))
  if (names.length > 0 && known.length > 0) {
    return ok('model providers', `${names.join(', ')}; models: ${known.join(', ')}`)
  }
  if (names.length > 0) {
    return warning(
      'model providers',
      `${names.join(', ')}, but no model of them`,
      'Name one in AGENTGATE_MODELS.',
    )
  }
  return warning(
    'model providers',
    'none, so only test keys have an agent to work with',
    'Set OPENAI_API_KEY, ANTHROPIC_API_KEY or AGENTGATE_COMPATIBLE_BASE_URL.',
  )
}
