import {
  GATE_LEVELS,
  type Gate,
  type GatePlan,
  type GateReport,
  type Verification,
} from '../domain/gate-plan.ts'
import type { JailSlot } from '../jail/command.ts'
import type { Clock } from '../lib/clock.ts'
import { unreachable } from '../lib/invariant.ts'
import { middleOut } from '../lib/text.ts'
import type { Change, CheckResult } from './check.ts'
import { checkCommand, type FreshTree } from './command-check.ts'
import { feedbackText, isFailure } from './feedback.ts'
import { checkFiles } from './files-check.ts'
import { checkForbidden } from './forbid-check.ts'
import { plainText } from './plain-text.ts'
import { Turn } from './turn.ts'

/** Kept of what one gate printed: its beginning and its end. */
const OUTPUT_CHARACTERS = 65_536

export interface Verify extends Change {
  plan: GatePlan
  slot: Pick<JailSlot, 'run' | 'own'>
  /** A new export of the commit with what the setup installed; each command gate gets one of its own. */
  freshTree: () => Promise<FreshTree>
  /** Regular files of the commit (no links, nothing that the setup installed), relative to its root. */
  listFiles: () => Promise<Iterable<string>>
  /** How often each gate failed in earlier iterations. */
  attempts: Readonly<Record<string, number>>
  /** Masks secrets; sees all text before it is cut. */
  clean: (text: string) => string
  clock: Clock
  /** Ends the verification: `runGates` throws its reason once nothing runs any more. */
  signal: AbortSignal
  /** Called after each gate, in order; the next one waits for it. */
  onReport?: (report: GateReport) => void | Promise<void>
}

/** Why the run ends here instead of going on with another iteration. */
export interface GateStop {
  /** Name of the gate; `null` when the plan as a whole verifies nothing. */
  gate: string | null
  reason: 'verification_failed' | 'gate_error'
  /** One sentence. */
  message: string
}

export interface Verdict {
  verification: Verification
  /** One per gate, in the order of levels and then of the plan. */
  reports: GateReport[]
  /** For the agent's next iteration; `null` unless the verification failed. */
  feedback: string | null
  stop: GateStop | null
}

/**
 * Verifies a commit out of the agent's reach. All gates of a level run, so that the feedback is complete;
 * a level starts only when the one before passed. Nothing a gate does to its tree is seen by another.
 *
 * Throws only for what is not the gates' doing: a tree that cannot be made, or `signal`.
 */
export async function runGates(verify: Verify): Promise<Verdict> {
  const { plan } = verify
  const files = new Set(await verify.listFiles())
  const reports: GateReport[] = []
  let blocked: string | null = null
  for (const level of GATE_LEVELS) {
    const gates = plan.gates.filter((gate) => gate.level === level)
    for (const gate of gates) {
      verify.signal.throwIfAborted()
      const report = blocked === null ? await runGate(gate, verify, files) : skipped(gate, blocked)
      reports.push(report)
      await verify.onReport?.(report)
    }
    if (reports.some(isFailure)) blocked ??= level
  }
  const verification = verificationOf(plan, reports)
  return {
    verification,
    reports,
    feedback: verification === 'failed' ? feedbackText(reports) : null,
    stop: verification === 'failed' ? stopOf(verify, reports) : null,
  }
}

async function runGate(gate: Gate, verify: Verify, files: ReadonlySet<string>): Promise<GateReport> {
  const startedAt = verify.clock.monotonic()
  const finding = await runCheck(gate, verify, files)
  return {
    name: gate.name,
    level: gate.level,
    outcome: finding.outcome,
    summary: verify.clean(plainText(finding.summary)),
    output: middleOut(verify.clean(plainText(finding.output)), OUTPUT_CHARACTERS),
    exitCode: finding.exitCode,
    durationMs: Math.round(verify.clock.monotonic() - startedAt),
  }
}

function runCheck(gate: Gate, verify: Verify, files: ReadonlySet<string>): Promise<CheckResult> {
  const { check } = gate
  switch (check.type) {
    case 'command':
      return checkCommand({ gate, run: check.run, files, ...verify })
    case 'files':
      return checkFiles(check, files, new Turn(verify.clock, verify.signal))
    case 'forbid':
      return checkForbidden(check, { timeoutSeconds: gate.timeoutSeconds, ...verify })
    default:
      return unreachable(check)
  }
}

const skipped = (gate: Gate, level: string): GateReport => ({
  name: gate.name,
  level: gate.level,
  outcome: 'skipped',
  summary: `Not run: ${level} did not pass.`,
  output: '',
  exitCode: null,
  durationMs: 0,
})

function verificationOf(plan: GatePlan, reports: readonly GateReport[]): Verification {
  if (reports.some(isFailure)) return 'failed'
  if (reports.some((report) => verifies(plan, report))) return 'passed'
  return plan.strict ? 'failed' : 'none'
}

/** The guards that are part of every detected plan say nothing about whether the software works. */
function verifies(plan: GatePlan, report: GateReport): boolean {
  if (report.outcome !== 'passed' || plan.source === 'none') return false
  return plan.source !== 'detected' || report.level !== 'L0'
}

function stopOf(verify: Verify, reports: readonly GateReport[]): GateStop | null {
  const { plan, attempts } = verify
  const broken = reports.find((report) => report.outcome === 'error')
  if (broken !== undefined) return { gate: broken.name, reason: 'gate_error', message: broken.summary }
  if (!plan.gates.some((gate) => gate.level === 'L1') && !reports.some(isFailure)) {
    const message = 'The plan is strict and nothing in the repository can be verified: give a gate plan.'
    return { gate: null, reason: 'verification_failed', message }
  }
  for (const report of reports.filter(isFailure)) {
    const gate = plan.gates.find(({ name }) => name === report.name)
    const earlier = Object.hasOwn(attempts, report.name) ? (attempts[report.name] ?? 0) : 0
    const message = gate === undefined ? null : stopMessage(gate, earlier + 1)
    if (message !== null) return { gate: report.name, reason: 'verification_failed', message }
  }
  return null
}

function stopMessage(gate: Gate, failures: number): string | null {
  if (gate.onFailure === 'stop') return `The gate "${gate.name}" failed, which ends the run.`
  if (gate.onFailure === 'escalate') return `The gate "${gate.name}" failed and asks for a person to look.`
  if (gate.maxAttempts === null || failures < gate.maxAttempts) return null
  return `The gate "${gate.name}" failed ${failures} of at most ${gate.maxAttempts} times.`
}
