/**
 * Owns: the way of one work order from workspace to delivery.
 * Invariants: what was done is told by the run's own events, so a resumed order goes on where the events end; the
 * gates see a commit, never the agent's tree; nothing is delivered that was not verified or honestly `none`.
 * Leaves to others: jails, git, gates and drivers, each behind its room.
 */
import type { AgentDriver } from '../domain/agent.ts'
import { GateError } from '../domain/error.ts'
import type { OrderFacts } from '../domain/facts.ts'
import type { GatePlan, GateReport } from '../domain/gate-plan.ts'
import type { JsonValue } from '../domain/json.ts'
import type { HeldRun } from '../domain/performer.ts'
import { resolveGatePlan } from '../gates/plan.ts'
import { GatePlanInvalid } from '../gates/plan-file.ts'
import type { JailSlot, Jails } from '../jail/jail.ts'
import type { Clock } from '../lib/clock.ts'
import { getBlob, putBlob } from '../storage/blobs.ts'
import type { Database } from '../storage/database.ts'
import { workspaceTools } from '../tools/workspace-tools.ts'
import type { Forge } from '../workspaces/forges/forge.ts'
import type { Workspace } from '../workspaces/workspace.ts'
import type { Workspaces } from '../workspaces/workspaces.ts'
import { runAgentTurn } from './agent-turn.ts'
import { keepArtifact } from './artifacts.ts'
import { publish } from './publication.ts'
import { RunFails } from './run-fails.ts'
import { runSetup, type SetupRules } from './setup-phase.ts'
import { toolboxOf } from './tool-pipeline.ts'
import { summarise, verify } from './verification.ts'

export interface OrderRoom {
  db: Database
  clock: Clock
  jails: Jails
  workspaces: Workspaces
  setup: SetupRules
  /** Folder for trees of gates and sockets of setups; every slot's uid can enter it. */
  scratch: string
  forgeOf: (organization: { id: string; mode: string }, repository: string) => Promise<Forge | undefined>
  runUrl: (runId: string) => string
  /** Masks secrets of this organisation. */
  clean: (text: string) => string
  /** Tells the room which slot's user owns a run's tree. */
  slots: Map<string, JailSlot>
}

export interface OrderAgent {
  driver: AgentDriver
  instructions: string
  input: JsonValue
}

const BASE_FILE_BYTES = 1024 * 1024
const MAX_OUTPUT_BYTES = 16 * 1024

export class OrderConduct {
  readonly #room: OrderRoom
  readonly #held: HeldRun
  readonly #order: OrderFacts
  readonly #agent: OrderAgent
  #reports: GateReport[] = []

  constructor(room: OrderRoom, held: HeldRun, { order, agent }: { order: OrderFacts; agent: OrderAgent }) {
    this.#room = room
    this.#held = held
    this.#order = order
    this.#agent = agent
  }

  async perform(): Promise<void> {
    const { facts } = this.#held.run
    const slot = await this.#room.jails.acquireSlot(this.#held.signal)
    this.#room.slots.set(facts.id, slot)
    let workspace: Workspace | null = null
    try {
      workspace = await this.#openWorkspace()
      await this.#work(workspace, slot)
    } finally {
      await this.#keepDiff(workspace)
      const isOver = this.#held.run.completedAt !== null || !this.#held.signal.aborted
      await workspace?.close({ keep: !isOver })
      this.#room.slots.delete(facts.id)
      slot.release()
    }
  }

  async #openWorkspace(): Promise<Workspace> {
    const { workspaces, db } = this.#room
    const { facts, base, sealed } = this.#held.run
    const { repository, branch, commit } = this.#order.workspaceSource
    const place = {
      runId: facts.id,
      organisation: organisationOf(facts),
      repository,
      signal: this.#held.signal,
    }
    const kept = base === null ? undefined : await workspaces.reopen(place)
    if (kept !== undefined) return kept
    const source = {
      ...place,
      ...(branch === undefined ? {} : { branch }),
      ...(base !== null ? { commit: base.commit } : commit === undefined ? {} : { commit }),
    }
    if (base === null || sealed === null || sealed.bundle === null) return workspaces.open(source)
    const bundle = await getBlob(db, sealed.bundle)
    return workspaces.reopenFromBundle({ ...source, commit: base.commit, bundle })
  }

  async #work(workspace: Workspace, slot: JailSlot): Promise<void> {
    const held = this.#held
    const plan = await this.#resolvePlan(workspace)
    if (held.run.base === null) {
      const { repository } = this.#order.workspaceSource
      const { baseBranch: branch, baseCommit: commit } = workspace
      await held.send({
        type: 'workspace_ready',
        repository,
        branch,
        commit,
        jail: this.#room.jails.report.jail,
      })
    }
    await this.#install(workspace, slot, plan)
    let output: JsonValue = held.run.text
    for (;;) {
      if (held.run.iteration.n === 0 || held.run.iteration.verdict === 'failed') await this.#beginIteration()
      if (held.run.iteration.commit === null) output = await this.#runAgent(workspace, slot)
      if (held.run.iteration.verdict === 'open') await this.#verify(workspace, slot, plan)
      if (held.run.iteration.verdict !== 'failed') break
    }
    await this.#deliver(workspace, output)
  }

  async #resolvePlan(workspace: Workspace): Promise<GatePlan> {
    try {
      return await resolveGatePlan({
        requested: this.#order.gatePlan,
        readFile: (path) => workspace.readFileAtBase(path, BASE_FILE_BYTES),
        listFiles: () => workspace.listFilesAt(workspace.baseCommit),
      })
    } catch (error) {
      if (!(error instanceof GatePlanInvalid) && !(error instanceof GateError)) throw error
      throw new RunFails({ reason: 'gate_error', stage: 'verification', message: error.message }, error)
    }
  }

  async #install(workspace: Workspace, slot: JailSlot, plan: GatePlan): Promise<void> {
    const { scratch, setup: rules } = this.#room
    if (plan.setup.length === 0) return
    await runSetup({
      rules,
      commands: plan.setup,
      slot,
      tree: workspace.tree,
      scratch,
      signal: this.#held.signal,
    })
    await workspace.ignoreUntracked()
  }

  /** The next iteration, with what the gates found as the agent's next message. */
  async #beginIteration(): Promise<void> {
    const { iteration } = this.#held.run
    if (iteration.n >= this.#order.maxIterations) {
      const message = `The gates still fail after ${iteration.n} iterations.`
      throw new RunFails({
        reason: 'limit_iterations',
        stage: 'verification',
        message,
        details: { gates: this.#reports.map(summarise) },
      })
    }
    await this.#held.send({ type: 'begin_iteration', iteration: iteration.n + 1 })
  }

  async #runAgent(workspace: Workspace, slot: JailSlot): Promise<JsonValue> {
    const held = this.#held
    const { clock, clean } = this.#room
    const { driver, instructions, input } = this.#agent
    const executors = workspaceTools({
      root: workspace.tree,
      own: (path) => slot.own(path),
      runCommand: async (command, { timeoutMs, signal }) =>
        slot.run({
          argv: ['/bin/sh', '-c', command],
          workspace: workspace.tree,
          mounts: await workspace.mounts('/workspace'),
          env: { CI: 'true', NO_COLOR: '1' },
          timeoutMs,
          maxOutputBytes: 64 * 1024,
          signal,
        }),
    })
    const toolbox = toolboxOf(executors, held.run.facts.constraints)
    const onSettled = async (step: number): Promise<void> => {
      await workspace.checkpoint(step, held.run.iteration.n)
    }
    const output = await runAgentTurn({ held, driver, input, instructions, toolbox, clock, clean, onSettled })
    await this.#seal(workspace)
    return output
  }

  /** The iteration's result becomes one commit, kept so that another machine can go on from it. */
  async #seal(workspace: Workspace): Promise<void> {
    const { db, clock } = this.#room
    const held = this.#held
    const title = this.#order.taskPrompt.trim().split('\n', 1)[0]?.slice(0, 72) ?? ''
    const sealed = await workspace.seal(`${title}\n\nAgentGate-Run: ${held.run.facts.id}`, clock.now())
    const data = await workspace.bundle(sealed.commit)
    const stored =
      data.length === 0
        ? null
        : await putBlob(db, data, { mediaType: 'application/x-git-bundle', at: new Date(clock.now()) })
    const { commit, tree, changed } = sealed
    await held.send({
      type: 'end_iteration',
      iteration: held.run.iteration.n,
      commit,
      tree,
      changed,
      bundle: stored?.hash ?? null,
    })
  }

  async #verify(workspace: Workspace, slot: JailSlot, plan: GatePlan): Promise<void> {
    const held = this.#held
    const { db, clock, setup, scratch, clean } = this.#room
    const { n: iteration, commit } = held.run.iteration
    await held.send({ type: 'begin_verification', iteration, gates: plan.gates.map(({ name }) => name) })
    const parts = { db, clock, held, plan, workspace, slot, setup, clean, scratch }
    const verdict = await verify(parts, commit ?? workspace.baseCommit)
    this.#reports = verdict.reports
    const gates = verdict.reports.map(summarise)
    if (verdict.verification !== 'failed') {
      await held.send({ type: 'pass_verification', iteration, gates, verification: verdict.verification })
      return
    }
    const feedback = verdict.feedback ?? ''
    await held.send({ type: 'fail_verification', iteration, gates, feedback }, [
      { kind: 'feedback', step: held.run.begunStep, iteration, text: feedback },
    ])
    if (verdict.stop !== null) {
      const { reason, message, gate } = verdict.stop
      throw new RunFails({ reason, stage: 'verification', message, details: { gate, gates } })
    }
  }

  async #deliver(workspace: Workspace, output: JsonValue): Promise<void> {
    const held = this.#held
    const { iteration, facts } = held.run
    const isTest = facts.mode === 'test'
    const { repository } = this.#order.workspaceSource
    const unchanged = !iteration.changed || iteration.commit === null
    const delivery = unchanged
      ? { mode: 'none' as const, reason: 'no_changes' }
      : await publish({
          held,
          order: this.#order,
          workspace,
          commit: iteration.commit ?? '',
          reports: this.#reports,
          forge: isTest
            ? undefined
            : await this.#room.forgeOf({ id: facts.organizationId, mode: facts.mode }, repository),
          testUrlOf: isTest
            ? this.#room.workspaces.testRemote(organisationOf(facts), repository).urlOf
            : null,
          runUrl: this.#room.runUrl(facts.id),
          clock: this.#room.clock,
        })
    const text = JSON.stringify(output)
    const isLarge = Buffer.byteLength(text) > MAX_OUTPUT_BYTES
    if (isLarge)
      await keepArtifact(this.#room, facts.id, {
        name: 'output.json',
        data: text,
        mediaType: 'application/json',
      })
    await held.send({
      type: 'complete',
      reason: unchanged ? 'no_changes' : 'completed',
      output: isLarge ? null : output,
      ...(isLarge ? { outputUrl: `/v1/runs/${facts.id}/artifacts/output.json` } : {}),
      delivery,
    })
  }

  async #keepDiff(workspace: Workspace | null): Promise<void> {
    const commit = this.#held.run.iteration.commit ?? this.#held.run.sealed?.commit
    if (workspace === null || commit === undefined || commit === workspace.baseCommit) return
    const { text } = await workspace.diff(commit)
    await keepArtifact(this.#room, this.#held.run.facts.id, {
      name: 'changes.diff',
      data: text,
      mediaType: 'text/x-diff',
    })
  }
}

/** Mirrors, credentials and test remotes of live and test mode are apart. */
export const organisationOf = ({ organizationId, mode }: { organizationId: string; mode: string }): string =>
  `${organizationId}/${mode}`
