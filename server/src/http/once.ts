import { GateError } from '../domain/error.ts'
import { storableJson } from '../lib/text.ts'
import type { Database, Tx } from '../storage/database.ts'
import {
  findAnswer,
  type GivenAnswer,
  insertAnswer,
  type KeyPlace,
  tryLockKey,
} from '../storage/idempotency.ts'
import type { Caller, IdempotencyMark } from './gateway.ts'
import type { Answer } from './handler.ts'

export interface Effect {
  answer: Answer
  /** The id of what was made or changed. */
  subjectId: string
  /** What a repeated request is answered: the body without its secrets. The same body when absent. */
  replay?: unknown
}

interface MarkedCall {
  caller: Caller
  mark: IdempotencyMark | null
  at: number
}

/**
 * Does `effect` once for each `Idempotency-Key`, in one transaction with the note of its answer (invariant 7). A request
 * that is refused leaves no note. Throws `GateError` IDEMPOTENCY_IN_FLIGHT or IDEMPOTENCY_KEY_REUSED.
 */
export function once(db: Database, call: MarkedCall, effect: (tx: Tx) => Promise<Effect>): Promise<Answer> {
  const { caller, mark, at } = call
  return db.inTransaction(async (tx) => {
    if (mark === null) return (await effect(tx)).answer
    const place = placeOf(caller, mark)
    if (!(await tryLockKey(tx, place))) {
      throw new GateError(
        'IDEMPOTENCY_IN_FLIGHT',
        'A request with this Idempotency-Key is being answered right now.',
      )
    }
    const given = await findAnswer(tx, place)
    if (given !== undefined) return replayOf(given, mark)
    const { answer, subjectId, replay = answer.body } = await effect(tx)
    const { status } = answer
    const noted = { bodyHash: mark.bodyHash, subjectId, status, answer: storableJson(replay ?? null) }
    await insertAnswer(tx, place, { ...noted, at: new Date(at) })
    return answer
  })
}

const placeOf = ({ organizationId, mode, tenantId }: Caller, { route, key }: IdempotencyMark): KeyPlace => ({
  organizationId,
  mode,
  tenantId: tenantId ?? '',
  route,
  key,
})

function replayOf({ bodyHash, status, answer }: GivenAnswer, mark: IdempotencyMark): Answer {
  if (bodyHash !== mark.bodyHash) {
    throw new GateError('IDEMPOTENCY_KEY_REUSED', 'This Idempotency-Key was used with another body.', {
      hint: 'Use a new key for a new request.',
    })
  }
  return { status, body: JSON.parse(answer), headers: REPLAYED }
}

export const REPLAYED = { 'idempotency-replayed': 'true' }
