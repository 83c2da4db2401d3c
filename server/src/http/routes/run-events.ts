import { GateError } from '../../domain/error.ts'
import type { RunId } from '../../domain/facts.ts'
import { isFinal } from '../../domain/lifecycle.ts'
import { listRunEvents } from '../../storage/events.ts'
import { isPurged } from '../../storage/purge.ts'
import type { Gateway } from '../gateway.ts'
import type { Handlers } from '../handler.ts'
import { getRun } from './runs.ts'

export function runEventRoutes(gateway: Gateway): Pick<Handlers, 'listRunEvents'> {
  return {
    async listRunEvents({ caller, params, query, accept }) {
      if (/\btext\/event-stream\b/i.test(accept)) {
        throw new GateError('INVALID_REQUEST', 'Events cannot be streamed as text/event-stream yet.', {
          hint: 'Ask for JSON pages and read on with `after`, the `seq` of the last event you have.',
        })
      }
      const { facts, state } = await getRun(gateway, caller, params.id)
      if (isFinal(state)) await refusePurged(gateway, facts.id)
      const { after = 0, limit = 20 } = query
      const events = await listRunEvents(gateway.db, facts.id, { after, limit: limit + 1 })
      const data = events.slice(0, limit)
      const last = events.length > limit ? data.at(-1) : undefined
      return { status: 200, body: { data, nextCursor: last === undefined ? null : String(last.seq) } }
    },
  }
}

async function refusePurged({ db }: Gateway, id: RunId): Promise<void> {
  if (!(await isPurged(db, id))) return
  throw new GateError('EVENTS_PURGED', `The events of run ${id} are no longer kept.`, {
    hint: 'The run itself still says how it ended and what it cost.',
  })
}
