import { presentRun } from '../../contract/present-run.ts'
import { effectsOf } from '../../domain/effects.ts'
import { GateError, notFound } from '../../domain/error.ts'
import type { RunFacts } from '../../domain/facts.ts'
import { isFinal } from '../../domain/lifecycle.ts'
import type { Run } from '../../domain/run.ts'
import { findQueuePosition } from '../../storage/queue.ts'
import { listRuns } from '../../storage/run-lists.ts'
import { findRun } from '../../storage/runs.ts'
import type { Totals } from '../../storage/totals.ts'
import type { Caller, Gateway, IdempotencyMark } from '../gateway.ts'
import type { Answer, Handlers } from '../handler.ts'
import { onceNoted, REPLAYED } from '../once.ts'
import { pageAnswer, pageAsk } from '../paging.ts'
import { retryFacts, runFacts } from '../run-facts.ts'
import { runFilter } from '../run-filter.ts'
import { awaitRun, waitHeaders } from '../waiting.ts'

/** The run, if the caller may see it; else RESOURCE_NOT_FOUND. */
export async function getRun({ db }: Gateway, caller: Caller, id: string): Promise<Run> {
  const run = await findRun(db, { ...caller, id })
  if (run === undefined) throw notFound(`Run ${id}`)
  return run
}

export function runRoutes(
  gateway: Gateway,
  totals: Totals,
): Pick<Handlers, 'createRun' | 'listRuns' | 'getRun' | 'cancelRun' | 'retryRun'> {
  return {
    createRun: (call) => submit(gateway, call, runFacts(call.body, call, gateway)),

    async listRuns({ caller, query }) {
      const ask = pageAsk(query)
      const page = await listRuns(
        gateway.db,
        { owner: caller, filter: runFilter(query, gateway.agents), totals },
        ask,
      )
      return { status: 200, body: pageAnswer(page, ask, (run) => presentRun(run)) }
    },

    async getRun(call) {
      const run = await awaitRun(gateway, call, await getRun(gateway, call.caller, call.params.id))
      const position = run.state === 'queued' ? await findQueuePosition(gateway.db, run) : undefined
      return { status: 200, body: presentRun(run, position), headers: waitHeaders(call) }
    },

    async cancelRun(call) {
      const { id } = (await getRun(gateway, call.caller, call.params.id)).facts
      return onceNoted(gateway.db, call, async () => {
        const run = await gateway.engine.cancelRun(id, call.caller.keyId)
        const status = run.state === 'canceled' ? 200 : 202
        return { answer: { status, body: presentRun(run) }, subjectId: id }
      })
    },

    async retryRun(call) {
      const run = await getRun(gateway, call.caller, call.params.id)
      checkRepeatable(run, call.body.acceptEffects ?? false)
      return submit(gateway, call, retryFacts(run.facts, call, gateway))
    },
  }
}

interface SubmittingCall {
  caller: Caller
  mark: IdempotencyMark | null
  waitSeconds: number | null
  gone(): AbortSignal
}

async function submit(gateway: Gateway, call: SubmittingCall, facts: RunFacts): Promise<Answer> {
  const { run, replayed } = await gateway.engine.createRun(facts, { idempotency: call.mark })
  const shown = await awaitRun(gateway, call, run)
  const headers = { location: `/v1/runs/${run.facts.id}`, ...waitHeaders(call), ...(replayed && REPLAYED) }
  return { status: 201, body: presentRun(shown), headers }
}

function checkRepeatable(run: Run, acceptEffects: boolean): void {
  if (!isFinal(run.state)) {
    throw new GateError(
      'CONFLICT',
      `Run ${run.facts.id} is still ${run.state}; only a final run can be repeated.`,
      {
        details: { state: run.state },
        hint: 'Wait for it, or cancel it first.',
      },
    )
  }
  const effects = effectsOf(run)
  if (effects.length === 0 || acceptEffects) return
  throw new GateError('EFFECTS_EXIST', `Run ${run.facts.id} wrote outside its workspace, or may have.`, {
    details: { effects },
    hint: 'Look at the effects; send {"acceptEffects": true} to repeat the run anyway.',
  })
}
