import { chmod, cp, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { GateSummary } from '../domain/event.ts'
import type { GatePlan, GateReport } from '../domain/gate-plan.ts'
import type { HeldRun } from '../domain/performer.ts'
import { reportArtifact } from '../gates/feedback.ts'
import { runGates, type Verdict } from '../gates/run-gates.ts'
import type { JailSlot } from '../jail/command.ts'
import type { Clock } from '../lib/clock.ts'
import type { Clean } from '../lib/redact.ts'
import type { Database } from '../storage/database.ts'
import type { Workspace } from '../workspaces/workspace.ts'
import { addedLines } from './added-lines.ts'
import { keepArtifact } from './artifacts.ts'
import type { RacePoint } from './race-points.ts'
import { RunFails } from './run-fails.ts'
import { runSetup, type SetupRules, sharersOf } from './setup-phase.ts'

export interface VerificationParts {
  db: Database
  clock: Clock
  held: HeldRun
  plan: GatePlan
  workspace: Workspace
  slot: JailSlot
  setup: SetupRules
  /** Folder for the trees of gates and the socket of setups; every slot's uid can enter it. */
  scratch: string
  pause: (point: RacePoint) => Promise<void>
  clean: Clean
}

export const summarise = ({ name, level, outcome, summary, durationMs }: GateReport): GateSummary => ({
  name,
  level,
  outcome,
  summary,
  durationMs,
})

/** Runs the plan on a commit, in trees that the agent never saw, and keeps a report of each gate. */
export async function verify(parts: VerificationParts, commit: string): Promise<Verdict> {
  const { db, clock, held, plan, workspace, slot } = parts
  const { facts, iteration } = held.run
  const folder = await mkdtemp(join(parts.scratch, 'g-'))
  await chmod(folder, 0o711)
  try {
    const trees = new GateTrees(parts, folder, commit)
    return await runGates({
      plan,
      slot,
      freshTree: () => trees.fresh(),
      listFiles: () => workspace.listFilesAt(commit),
      addedLines: async () => addedLines(await searched(workspace, commit)),
      changedPaths: commit === workspace.baseCommit ? [] : await workspace.changedPaths(commit),
      attempts: held.run.gateFailures,
      clean: parts.clean,
      clock,
      signal: held.signal,
      onReport: async (report) => {
        const { name, contentType, content } = reportArtifact(report, iteration.n)
        await keepArtifact({ db, clock }, facts.id, { name, mediaType: contentType, data: content })
      },
    })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function searched(workspace: Workspace, commit: string): Promise<string> {
  const diff = await workspace.searchableDiff(commit)
  if (diff !== undefined) return diff
  throw new RunFails({
    reason: 'gate_error',
    stage: 'verification',
    message: 'The change is too large to be searched for secrets and other forbidden text.',
    hint: 'Ask for a smaller change, and keep generated files out of it.',
  })
}

/** A fresh tree per gate: the commit with its dependencies, installed once and copied. */
class GateTrees {
  readonly #parts: VerificationParts
  readonly #folder: string
  readonly #commit: string
  #prepared: Promise<string> | null = null
  #count = 0

  constructor(parts: VerificationParts, folder: string, commit: string) {
    this.#parts = parts
    this.#folder = folder
    this.#commit = commit
  }

  async fresh(): Promise<{ path: string } & AsyncDisposable> {
    const path = join(this.#folder, `gate-${++this.#count}`)
    if (this.#parts.plan.setup.length === 0) await this.#parts.workspace.checkoutTo(this.#commit, path)
    else {
      this.#prepared ??= this.#prepare()
      await cp(await this.#prepared, path, {
        recursive: true,
        verbatimSymlinks: true,
        preserveTimestamps: true,
      })
    }
    await this.#parts.pause('gate.before')
    return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
  }

  async #prepare(): Promise<string> {
    const { db, clock, workspace, slot, plan, setup, held, scratch, clean } = this.#parts
    const tree = join(this.#folder, 'prepared')
    await workspace.checkoutTo(this.#commit, tree)
    await slot.own(tree)
    const { facts, iteration } = held.run
    await runSetup({
      rules: setup,
      commands: plan.setup,
      slot,
      tree,
      scratch,
      sharedBy: sharersOf(facts),
      stage: 'verification',
      clean,
      keepLog: async (data) => {
        const name = `setup-${iteration.n}.log`
        await keepArtifact({ db, clock }, facts.id, { name, data, mediaType: 'text/plain' })
      },
      signal: held.signal,
    })
    return tree
  }
}
