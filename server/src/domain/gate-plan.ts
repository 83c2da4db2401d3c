/** The levels of verification, in the order they run; a level starts only when the one before passed. */
export const GATE_LEVELS = ['L0', 'L1'] as const
export type GateLevel = (typeof GATE_LEVELS)[number]

export type GateCheck =
  /** Passes when the shell command exits 0 in a fresh jail from the commit. */
  | { type: 'command'; run: string }
  /** Passes when each glob matches at least one file of the commit. */
  | { type: 'files'; required: string[] }
  /**
   * Passes when no line that the change added matches a pattern (RE2 syntax) and no changed path matches
   * a glob of `paths`.
   */
  | { type: 'forbid'; patterns?: string[]; paths?: string[] }

/** What a failure leads to: the next iteration, the end of the run, or a person (which ends the run today). */
export type GateFailure = 'iterate' | 'stop' | 'escalate'

export interface Gate {
  name: string
  level: GateLevel
  check: GateCheck
  timeoutSeconds: number
  onFailure: GateFailure
  /** How often the gate may fail before the run ends as `verification_failed`; `null` is no limit of its own. */
  maxAttempts: number | null
}

export type GatePreset = 'default' | 'strict' | 'none'

export interface GatePlan {
  /** Where the plan came from: the request, a file of the repository, its tooling, or nowhere. */
  source: 'request' | 'repository' | 'detected' | 'none'
  /** Under `strict` a plan without a runnable gate fails instead of ending as `none`. */
  strict: boolean
  /** Shell commands that may install dependencies, before the agent and again for the gates. */
  setup: string[]
  gates: Gate[]
}

export const GATE_DEFAULTS = { timeoutSeconds: 300, onFailure: 'iterate', maxAttempts: null } as const

export type GateOutcome = 'passed' | 'failed' | 'timed_out' | 'error' | 'skipped'

export interface GateReport {
  name: string
  level: GateLevel
  outcome: GateOutcome
  /** One sentence for people. */
  summary: string
  /** What the check printed, trimmed and storable; becomes the report artifact. */
  output: string
  exitCode: number | null
  durationMs: number
}

export type { Verification } from './lifecycle.ts'
