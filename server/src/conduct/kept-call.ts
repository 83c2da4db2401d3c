import { cleanName } from '../agents/conversation.ts'
import type { JsonValue } from '../domain/json.ts'
import type { RequestedCall } from '../domain/tool-call.ts'
import { cleanJson } from '../lib/clean-json.ts'
import type { Redactor } from '../lib/redact.ts'

/** What a run may say, and how its journal keeps what it may not. */
export interface Secrecy extends Redactor {
  /** Opens nowhere but for the same call. */
  seal: (text: string, callId: string) => string
  open: (sealed: string, callId: string) => string
}

/**
 * A call as the journal has it. Nothing is carried out with a secret of the gateway: an agent was never given one.
 * All else is only likely to be a secret, perhaps of the project itself, so how it was asked is kept under seal.
 */
export function keepCall(call: RequestedCall, { clean, cleanKnown, seal }: Secrecy): RequestedCall {
  const { id, malformed } = call
  const whole = JSON.stringify(call.arguments)
  const kept = cleanJson(call.arguments, clean)
  const isWithheld = JSON.stringify(cleanJson(call.arguments, cleanKnown)) !== whole
  return {
    ...call,
    name: cleanName(call.name, clean),
    arguments: kept,
    ...(malformed === undefined ? {} : { malformed: clean(malformed) }),
    ...(isWithheld ? { withheld: true } : {}),
    ...(!isWithheld && JSON.stringify(kept) !== whole ? { sealed: seal(whole, id) } : {}),
  }
}

/** The call as the agent asked for it, also when all that is left of it is the journal. */
export function askedCall(call: RequestedCall, { open }: Secrecy): RequestedCall {
  if (call.sealed === undefined) return call
  const args: JsonValue = JSON.parse(open(call.sealed, call.id))
  return { ...call, arguments: args }
}
