import { APIError, ConnectionError } from '../../../sdk/typescript/src/index.ts'
import { ConfigInvalid } from '../config.ts'
import { GateError } from '../domain/error.ts'
import { plain, type Terminal } from './terminal.ts'

/** How a command ends. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  configuration: 78,
  interrupted: 130,
  terminated: 143,
} as const

/** A wrong use of a command that its parser cannot see. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** Tells a person what went wrong and what to do; the stack is shown only for what nobody foresaw. */
export function explain(error: unknown, terminal: Terminal): number {
  if (error instanceof ConfigInvalid) {
    terminal.say('The settings are wrong:')
    for (const mistake of error.mistakes) terminal.say(`  ${plain(mistake)}`)
    return EXIT.configuration
  }
  if (error instanceof UsageError) {
    terminal.say(error.message)
    return EXIT.usage
  }
  for (const line of sentences(error)) terminal.say(line)
  return EXIT.failed
}

function sentences(error: unknown): string[] {
  if (error instanceof GateError) return [plain(error.message), ...hint(error.hint)]
  if (error instanceof APIError) {
    const place = error.requestId === undefined ? error.code : `${error.code}, request ${error.requestId}`
    return [`${plain(error.message)} (${plain(place)})`, ...hint(error.hint)]
  }
  if (error instanceof ConnectionError) {
    return [
      plain(error.message),
      'Start a gateway with ./agentgate start, or name one in AGENTGATE_BASE_URL.',
    ]
  }
  if (error instanceof Error && 'syscall' in error) return [plain(error.message)]
  return [error instanceof Error ? (error.stack ?? error.message) : String(error)]
}

const hint = (text: string | undefined): string[] => (text === undefined ? [] : [plain(text)])
