import { isFinal } from '../domain/lifecycle.ts'
import type { Run } from '../domain/run.ts'
import { findRun } from '../storage/runs.ts'
import type { Caller, Gateway } from './gateway.ts'

interface WaitingCall {
  caller: Caller
  waitSeconds: number | null
  gone(): AbortSignal
}

/** Nothing more happens to the run unless its caller does something. */
const isSettled = ({ state }: Run): boolean =>
  isFinal(state) || state === 'tool_required' || state === 'waiting_approval'

/** The run as it is when it is settled or the preferred time is over; at once without a preference. */
export async function awaitRun({ engine, db }: Gateway, call: WaitingCall, run: Run): Promise<Run> {
  const { caller, waitSeconds } = call
  if (waitSeconds === null || isSettled(run)) return run
  const { id } = run.facts
  const settled = await engine.waitForRun(id, { timeoutMs: waitSeconds * 1000, signal: call.gone() })
  return settled ?? (await findRun(db, { ...caller, id })) ?? run
}

/** Says that the preference was honoured. */
export const waitHeaders = ({ waitSeconds }: WaitingCall): Record<string, string> =>
  waitSeconds === null ? {} : { 'preference-applied': `wait=${waitSeconds}` }
