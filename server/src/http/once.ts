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
    const done = await effect(tx)
    await insertAnswer(tx, place, noteOf(done, mark, at))
    return done.answer
  })
}

/**
 * The same for an effect that commits by itself and does no harm when it happens again: the first answer that is noted
 * is the one that is given from then on. No connection is held while the effect goes on.
 */
export async function onceNoted(
  db: Database,
  call: MarkedCall,
  effect: () => Promise<Effect>,
): Promise<Answer> {
  const { caller, mark, at } = call
  if (mark === null) return (await effect()).answer
  const place = placeOf(caller, mark)
  const given = await findAnswer(db, place)
  if (given !== undefined) return replayOf(given, mark)
  const done = await effect()
  if (await insertAnswer(db, place, noteOf(done, mark, at))) return done.answer
  const first = await findAnswer(db, place)
  return first === undefined ? done.answer : replayOf(first, mark)
}

function noteOf(
  { answer, subjectId, replay = answer.body }: Effect,
  { bodyHash }: IdempotencyMark,
  at: number,
) {
  return {
    bodyHash,
    subjectId,
    status: answer.status,
    answer: storableJson(replay ?? null),
    at: new Date(at),
  }
}

const placeOf = ({ organizationId, mode }: Caller, { route, key, tenantId }: IdempotencyMark): KeyPlace => ({
  organizationId,
  mode,
  tenantId,
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
