import type { Command } from 'commander'
import { AgentGate } from '../../../sdk/typescript/src/index.ts'
import { readConfig } from '../config.ts'
import type { Context } from './context.ts'
import { UsageError } from './failure.ts'
import { findFirstKey, firstKeysPath } from './first-keys.ts'

export interface ConnectionOptions {
  test?: true
}

export const withConnection = (command: Command): Command =>
  command.option('--test', 'use the test key of the first start')

/**
 * A client of the gateway that the environment names, else of the one that `start` would start here with its first
 * keys. Throws `UsageError` where no key is known.
 */
export function connect(context: Context, { test }: ConnectionOptions = {}): AgentGate {
  const { settings, environment } = context
  const config = readConfig(environment)
  const given = test ? undefined : settings.apiKey?.reveal()
  const apiKey = given ?? findFirstKey(config.dataDir, test ? 'test' : 'live')
  if (apiKey === undefined) {
    throw new UsageError(
      `Give a key in AGENTGATE_API_KEY; there is none in ${firstKeysPath(config.dataDir)} either.`,
    )
  }
  return new AgentGate({ apiKey, baseUrl: settings.baseUrl ?? localUrl(config) })
}

/** Where a server with these settings is reached from this machine. */
export function localUrl({ host, port }: { host: string; port: number }): string {
  const name = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`
}

/** Every item of a list, through all of its pages. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}
