import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FirstSecrets } from '../founding.ts'

/** Names of the lines in the file; the first is what the SDK and the command line read from the environment. */
export const KEY_NAMES = {
  live: 'AGENTGATE_API_KEY',
  test: 'AGENTGATE_TEST_API_KEY',
  webhook: 'AGENTGATE_WEBHOOK_SECRET',
} as const

export const firstKeysPath = (dataDir: string): string => join(dataDir, 'first-keys.env')

/** Writes what the first start gave out where only its user reads it, and gives the path. */
export function writeFirstKeys(dataDir: string, secrets: FirstSecrets): string {
  const path = firstKeysPath(dataDir)
  const lines = [
    '# Given out by the first start. Keep them somewhere safe, and remove this file.',
    `${KEY_NAMES.live}=${secrets.liveKey.reveal()}`,
    `${KEY_NAMES.test}=${secrets.testKey.reveal()}`,
    `${KEY_NAMES.webhook}=${secrets.webhookSecret.reveal()}`,
  ]
  rmSync(path, { force: true })
  writeFileSync(path, `${lines.join('\n')}\n`, { mode: 0o600, flag: 'wx' })
  return path
}

/** One line's value; nothing where there is no such file or line. */
export function findFirstKey(dataDir: string, mode: 'live' | 'test'): string | undefined {
  let text: string
  try {
    text = readFileSync(firstKeysPath(dataDir), 'utf8')
  } catch {
    return undefined
  }
  const prefix = `${KEY_NAMES[mode]}=`
  const line = text.split('\n').find((each) => each.startsWith(prefix))
  return line?.slice(prefix.length)
}
