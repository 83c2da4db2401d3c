import type { GatePlan } from '../domain/gate-plan.ts'
import { detectGates, type Repository } from './detect.ts'
import { type GatePlanRequest, parseGatePlan } from './parse-plan.ts'
import { readPlanFile } from './plan-file.ts'

const NOTHING_ASKED: GatePlanRequest = { preset: 'default', setup: null, levels: null, gates: null }

export interface PlanQuestion extends Repository {
  /** The work order's `gatePlan` as it stands on the wire; `null` and `undefined` ask for nothing. */
  requested: unknown
}

/**
 * The plan of a run, from what does not lie in the agent's reach: the request, else the repository's own file
 * at the base commit, else what its tooling offers there. `readFile` and `listFiles` read the base commit.
 * A request without gates of its own (a preset, `setup`, `levels`) narrows what the repository brings.
 *
 * @throws GateError when the request is not valid, see `parseGatePlan`
 * @throws GatePlanInvalid when the repository's file is not
 */
export async function resolveGatePlan(question: PlanQuestion): Promise<GatePlan> {
  const { requested } = question
  const request =
    requested === null || requested === undefined ? NOTHING_ASKED : parseGatePlan(requested, '/gatePlan')
  const file = decides(request) ? null : await readPlanFile(question.readFile)
  const asked = file === null ? [request] : [request, file]
  const found = await gatesOf(file ?? request, file === null ? 'request' : 'repository', question)
  return {
    source: found.source,
    strict: asked.some((layer) => layer.preset === 'strict'),
    setup: asked.find((layer) => layer.setup !== null)?.setup ?? found.setup,
    gates: found.gates.filter((gate) => asked.every((layer) => layer.levels?.includes(gate.level) ?? true)),
  }
}

const decides = (request: GatePlanRequest): boolean => request.gates !== null || request.preset === 'none'

async function gatesOf(
  request: GatePlanRequest,
  source: 'request' | 'repository',
  repository: Repository,
): Promise<Pick<GatePlan, 'source' | 'setup' | 'gates'>> {
  if (request.gates !== null) return { source, setup: [], gates: request.gates }
  if (request.preset === 'none') return { source: 'none', setup: [], gates: [] }
  return detectGates(repository)
}
