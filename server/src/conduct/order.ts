/**
 * Owns: the way of one work order from workspace to delivery.
 * Invariants: what was done is told by the run's own events, so a resumed order goes on where the events end; the
 * gates see a commit, never the agent's tree; nothing is delivered that was not verified or honestly `none`.
 * Leaves to others: jails, git, gates and drivers, each behind its room; saying how the run ended.
 */
import type { AgentDriver } from '../domain/agent.ts'
import type { WorkCommand } from '../domain/command.ts'
import { GateError } from '../domain/error.ts'
import type { GateSummary, SetupSummary } from '../domain/event.ts'
import type { OrderFacts } from '../domain/facts.ts'
import type { GatePlan } from '../domain/gate-plan.ts'
import type { JsonValue } from '../domain/json.ts'
import type { Delivery } from '../domain/lifecycle.ts'
import type { HeldRun } from '../domain/performer.ts'
import { resolveGatePlan } from '../gates/plan.ts'
import { GatePlanInvalid } from '../gates/plan-file.ts'
import type { JailSlot, Jails } from '../jail/jail.ts'
import type { Clock } from '../lib/clock.ts'
import type { Clean } from '../lib/redact.ts'
import { together } from '../lib/together.ts'
import { getBlob, putBlob } from '../storage/blobs.ts'
import type { Database } from '../storage/database.ts'
import { workspaceTools } from '../tools/workspace-tools.ts'
import type { Forge } from '../workspaces/forges/forge.ts'
import type { Staged } from '../workspaces/store.ts'
import type { Workspace } from '../workspaces/workspace.ts'
import type { Workspaces } from '../workspaces/workspaces.ts'
import { runAgentTurn } from './agent-turn.ts'
import { type Artifact, keepArtifact } from './artifacts.ts'
import { gatesSoFar } from './gates-so-far.ts'
import type { Secrecy } from './kept-call.ts'
import { deliveryMode, publish } from './publication.ts'
import type { Pause, RacePoint } from './race-points.ts'
import { RunFails } from './run-fails.ts'
import { runSetup, type SetupRules, sharersOf } from './setup-phase.ts'
import { tellingKills } from './stopping.ts'
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
  /** Tells the room which slot's user owns a run's tree. */
  slots: Map<string, JailSlot>
  pause: Pause
  log: { error(facts: object, sentence: string): void }
}

export interface OrderAgent {
  driver: AgentDriver
  instructions: string
  input: JsonValue
}

export interface OrderParts {
  held: HeldRun
  order: OrderFacts
  agent: OrderAgent
  secrecy: Secrecy
}

export type Completion = Extract<WorkCommand, { type: 'complete' }>

const BASE_FILE_BYTES = 1024 * 1024
const MAX_OUTPUT_BYTES = 16 * 1024

export class OrderConduct implements Disposable {
  readonly #room: OrderRoom
  readonly #held: HeldRun
  readonly #order: OrderFacts
  readonly #agent: OrderAgent
  readonly #secrecy: Secrecy
  readonly #clean: Clean
  #slot: JailSlot | null = null
  #workspace: Workspace | null = null
  /** What the gates found last; `null` when that was before this claim. */
  #gates: GateSummary[] | null = null

  constructor(room: OrderRoom, { held, order, agent, secrecy }: OrderParts) {
    this.#room = room
    this.#held = held
    this.#order = order
    this.#agent = agent
    this.#secrecy = secrecy
    this.#clean = secrecy.clean
  }

  /** Throws `RunFails`, `SourceError`, `DeliveryError`, `LimitReached`, `ClaimLost`. */
  async perform(): Promise<Completion> {
    const { facts } = this.#held.run
    this.#slot = tellingKills(await this.#room.jails.acquireSlot(this.#held.signal), this.#held)
    this.#room.slots.set(facts.id, this.#slot)
    this.#workspace = await this.#openWorkspace()
    return this.#work(this.#workspace, this.#slot)
  }

  /** What the agent had done when its work ended before it was sealed. */
  async keepUnsealed(): Promise<void> {
    const workspace = this.#workspace
    const { iteration, begunStep, base } = this.#held.run
    if (workspace === null || base === null || iteration.n === 0 || iteration.commit !== null) return
    const { commit } = await workspace.checkpoint(begunStep, iteration.n)
    await this.#keepDiff(workspace, commit)
  }

  /** Gives back the slot; the workspace stays until nobody goes on with it (`Workspaces.remove`). */
  [Symbol.dispose](): void {
    this.#room.slots.delete(this.#held.run.facts.id)
    this.#slot?.release()
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

  async #work(workspace: Workspace, slot: JailSlot): Promise<Completion> {
    const held = this.#held
    await this.#pause('workspace.opened')
    const forge = await this.#forge()
    deliveryMode(this.#order, forge)
    const plan = await this.#resolvePlan(workspace)
    const setup = await this.#install(workspace, slot, plan)
    if (held.run.base === null) {
      const { repository } = this.#order.workspaceSource
      const { baseBranch: branch, baseCommit: commit } = workspace
      const { jail } = this.#room.jails.report
      const installed = setup.length === 0 ? {} : { setup }
      held.defer({ type: 'workspace_ready', repository, branch, commit, jail, ...installed })
    }
    let output: JsonValue = held.run.text
    for (;;) {
      if (held.run.iteration.n === 0 || held.run.iteration.verdict === 'failed') await this.#beginIteration()
      if (held.run.iteration.commit === null) output = await this.#runAgent(workspace, slot)
      if (held.run.iteration.verdict === 'open') await this.#verify(workspace, slot, plan)
      if (held.run.iteration.verdict !== 'failed') break
    }
    const unchanged = !held.run.iteration.changed || held.run.iteration.commit === null
    const delivery: Delivery = unchanged
      ? { mode: 'none', reason: 'no_changes' }
      : await this.#deliver(workspace, forge)
    return {
      type: 'complete',
      reason: unchanged ? 'no_changes' : 'completed',
      delivery,
      ...(await this.#shownOutput(output)),
    }
  }

  /** A test run's "forge" is the server itself. */
  async #forge(): Promise<Forge | 'test' | undefined> {
    const { organizationId: id, mode } = this.#held.run.facts
    if (mode === 'test') return 'test'
    return this.#room.forgeOf({ id, mode }, this.#order.workspaceSource.repository)
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

  async #install(
    workspace: Workspace,
    slot: JailSlot,
    { setup: commands }: GatePlan,
  ): Promise<SetupSummary[]> {
    const { scratch, setup: rules } = this.#room
    const { signal } = this.#held
    if (commands.length === 0) return []
    const keepLog = (data: string): Promise<void> =>
      this.#keep({ name: 'setup.log', data, mediaType: 'text/plain' })
    const sharedBy = sharersOf(this.#held.run.facts)
    const place = { slot, tree: workspace.tree, scratch, sharedBy, stage: 'workspace' as const }
    await this.#pause('setup.before')
    const done = await runSetup({ rules, commands, ...place, clean: this.#clean, keepLog, signal })
    await workspace.ignoreUntracked()
    await this.#pause('setup.done')
    return done
  }

  /** The next iteration, with what the gates found as the agent's next message. */
  async #beginIteration(): Promise<void> {
    const { iteration } = this.#held.run
    if (iteration.n >= this.#order.maxIterations) {
      const message = `The gates still fail after ${iteration.n} ${iteration.n === 1 ? 'iteration' : 'iterations'}.`
      const gates = await this.#lastGates()
      throw new RunFails({ reason: 'limit_iterations', stage: 'verification', message, details: { gates } })
    }
    await this.#held.send({ type: 'begin_iteration', iteration: iteration.n + 1 })
  }

  async #runAgent(workspace: Workspace, slot: JailSlot): Promise<JsonValue> {
    const held = this.#held
    const { clock } = this.#room
    const secrecy = this.#secrecy
    const { driver, instructions, input } = this.#agent
    const executors = workspaceTools({
      root: workspace.tree,
      own: (path) => slot.own(path),
      runCommand: async (command, { timeoutMs, signal }) => {
        await this.#pause('command.before')
        const result = await slot.run({
          argv: ['/bin/sh', '-c', command],
          workspace: workspace.tree,
          mounts: await workspace.mounts('/workspace'),
          env: { CI: 'true', NO_COLOR: '1' },
          timeoutMs,
          maxOutputBytes: 64 * 1024,
          signal,
        })
        await this.#pause('command.done')
        return result
      },
    })
    const toolbox = toolboxOf(executors, held.run.facts.constraints)
    const pause = (point: RacePoint): Promise<void> => this.#pause(point)
    let staged: Staged | undefined
    const onSettled = async (step: number): Promise<void> => {
      staged = (await workspace.checkpoint(step, held.run.iteration.n)).staged
      await this.#pause('checkpoint.taken')
    }
    const output = await runAgentTurn({
      held,
      driver,
      input,
      instructions,
      toolbox,
      clock,
      secrecy,
      pause,
      onSettled,
    })
    await this.#seal(workspace, staged)
    return output
  }

  /** The iteration's result becomes one commit, kept so that another machine can go on from it. */
  async #seal(workspace: Workspace, staged: Staged | undefined): Promise<void> {
    const { db, clock } = this.#room
    const held = this.#held
    const title = this.#clean(this.#order.taskPrompt.trim().split('\n', 1)[0] ?? '').slice(0, 72)
    const message = `${title}\n\nAgentGate-Run: ${held.run.facts.id}`
    const sealed = await workspace.seal(message, clock.now(), staged)
    const data = await workspace.bundle(sealed.commit)
    const stored =
      data.length === 0
        ? null
        : await putBlob(db, data, { mediaType: 'application/x-git-bundle', at: new Date(clock.now()) })
    const { commit, tree, changed } = sealed
    await this.#pause('iteration.sealed')
    const bundle = stored?.hash ?? null
    const end = {
      type: 'end_iteration',
      iteration: held.run.iteration.n,
      commit,
      tree,
      changed,
      bundle,
    } as const
    // The gates ask for the changes next.
    await together([held.send(end), workspace.changes(commit)])
  }

  async #verify(workspace: Workspace, slot: JailSlot, plan: GatePlan): Promise<void> {
    const held = this.#held
    const { db, clock, setup, scratch } = this.#room
    const { n: iteration, commit } = held.run.iteration
    const gateNames = plan.gates.map(({ name }) => name)
    const pause = (point: RacePoint): Promise<void> => this.#pause(point)
    const parts = { db, clock, held, plan, workspace, slot, setup, clean: this.#clean, scratch, pause }
    const sealed = commit ?? workspace.baseCommit
    const begun = held.send({ type: 'begin_verification', iteration, gates: gateNames })
    // The diff is kept also of a run that was canceled just now; one that is taken up again keeps it again.
    const [verdict] = await together([
      begun.then(() => verify(parts, sealed)),
      this.#keepDiff(workspace, sealed),
    ])
    await this.#pause('gates.done')
    const gates = verdict.reports.map(summarise)
    this.#gates = gates
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

  async #deliver(workspace: Workspace, forge: Forge | 'test' | undefined): Promise<Delivery> {
    const held = this.#held
    const { iteration, facts } = held.run
    return publish({
      held,
      pause: (point) => this.#pause(point),
      order: this.#order,
      workspace,
      commit: iteration.commit ?? workspace.baseCommit,
      gates: await this.#lastGates(),
      forge,
      runUrl: this.#room.runUrl(facts.id),
      clean: this.#clean,
      clock: this.#room.clock,
    })
  }

  /** What the gates found last, also when another worker ran them. */
  async #lastGates(): Promise<GateSummary[]> {
    this.#gates ??= await gatesSoFar(this.#room.db, this.#held.run.facts.id)
    return this.#gates
  }

  async #shownOutput(output: JsonValue): Promise<{ output: JsonValue; outputUrl?: string }> {
    const data = JSON.stringify(output)
    if (Buffer.byteLength(data) <= MAX_OUTPUT_BYTES) return { output }
    await this.#keep({ name: 'output.json', data, mediaType: 'application/json' })
    return { output: null, outputUrl: `/v1/runs/${this.#held.run.facts.id}/artifacts/output.json` }
  }

  #pause(point: RacePoint): Promise<void> {
    return this.#room.pause(point, this.#held.run.facts.id)
  }

  async #keepDiff(workspace: Workspace, commit: string): Promise<void> {
    if (commit === workspace.baseCommit) return
    const { text } = await workspace.diff(commit)
    if (text !== '')
      await this.#keep({ name: 'changes.diff', data: this.#clean(text), mediaType: 'text/x-diff' })
  }

  async #keep(artifact: Artifact): Promise<void> {
    await keepArtifact(this.#room, this.#held.run.facts.id, artifact)
  }
}

/** Mirrors, credentials and test remotes of live and test mode are apart. */
export const organisationOf = ({ organizationId, mode }: { organizationId: string; mode: string }): string =>
  `${organizationId}/${mode}`
