import { GateError } from '../../domain/error.ts'
import { listRunEvents } from '../../storage/events.ts'
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
      const { facts } = await getRun(gateway, caller, params.id)
      const { after = 0, limit = 20 } = query
      const events = await listRunEvents(gateway.db, facts.id, { after, limit: limit + 1 })
      const data = events.slice(0, limit)
      const last = events.length > limit ? data.at(-1) : undefined
      return { status: 200, body: { data, nextCursor: last === undefined ? null : String(last.seq) } }
    },
  }
}
