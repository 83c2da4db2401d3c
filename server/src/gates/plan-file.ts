import { parse } from 'yaml'
import { GateError } from '../domain/error.ts'
import { type GatePlanRequest, parseGatePlan } from './parse-plan.ts'

/** Where a repository keeps its own plan; the first that exists counts. */
const PLAN_FILES = ['agentgate.yaml', 'agentgate.yml', 'verify.yaml'] as const

/** Keeps the parser's work small: duplicate keys are looked for in quadratic time. */
const FILE_CHARACTERS = 16_384

/** The repository's own plan cannot be used; ends the run as `gate_error`. The message is a sentence. */
export class GatePlanInvalid extends Error {
  override readonly name = 'GatePlanInvalid'
}

/** Reads a file of one commit; `undefined` when there is none. */
export type ReadFile = (path: string) => Promise<string | undefined>

/** The plan a repository brings, or `null`. */
export async function readPlanFile(readFile: ReadFile): Promise<GatePlanRequest | null> {
  for (const path of PLAN_FILES) {
    const text = await readFile(path)
    if (text !== undefined) return parsePlanFile(path, text)
  }
  return null
}

function parsePlanFile(path: string, text: string): GatePlanRequest {
  if (text.length > FILE_CHARACTERS) throw invalid(path, `it has more than ${FILE_CHARACTERS} characters`)
  try {
    return parseGatePlan(parseYaml(path, text), '')
  } catch (error) {
    if (!(error instanceof GateError)) throw error
    throw new GatePlanInvalid(`${path} at the base commit cannot be used. ${error.message}`, { cause: error })
  }
}

function parseYaml(path: string, text: string): unknown {
  try {
    // No aliases: a few of them nested make gigabytes out of a page.
    return parse(text, { schema: 'core', maxAliasCount: 0, logLevel: 'error' })
  } catch (cause) {
    const [line = 'it is not YAML'] = (cause instanceof Error ? cause.message : String(cause)).split('\n')
    throw invalid(path, line.replace(/:$/, ''), cause)
  }
}

const invalid = (path: string, why: string, cause?: unknown): GatePlanInvalid =>
  new GatePlanInvalid(`${path} at the base commit cannot be used: ${why}.`, { cause })
