import type { GateSummary } from '../domain/event.ts'
import type { DeliveryRequest, OrderFacts } from '../domain/facts.ts'
import type { Delivery } from '../domain/lifecycle.ts'
import { creditsCharged } from '../domain/money.ts'
import type { HeldRun } from '../domain/performer.ts'
import { costSoFar } from '../domain/run.ts'
import type { Clock } from '../lib/clock.ts'
import { invariant } from '../lib/invariant.ts'
import type { Clean } from '../lib/redact.ts'
import type { Forge } from '../workspaces/forges/forge.ts'
import { pullRequestBody } from '../workspaces/forges/pull-request-body.ts'
import type { Workspace } from '../workspaces/workspace.ts'
import { linesWithSecrets } from './added-lines.ts'
import type { RacePoint } from './race-points.ts'
import { RunFails } from './run-fails.ts'

export interface Publication {
  held: HeldRun
  pause: (point: RacePoint) => Promise<void>
  order: OrderFacts
  workspace: Workspace
  commit: string
  gates: readonly GateSummary[]
  /** The forge of the repository; nothing where there is none or no credential for it. `test` stays in the server. */
  forge: Forge | 'test' | undefined
  runUrl: string
  clean: Clean
  clock: Clock
}

/**
 * Pushes the verified commit and opens the pull request. Each half is recorded when it is done and harmless when
 * it is done again, so a crash between them is resumed. Throws `DeliveryError`, `RunFails`.
 */
export async function publish(publication: Publication): Promise<Delivery> {
  const { held, order, workspace, commit, forge, pause } = publication
  const wanted = order.delivery
  const mode = deliveryMode(order, forge)
  const found = await searchForSecrets(publication)
  if (mode === 'none') return { mode, commit, ...found }
  const branch = wanted?.branch ?? `agentgate/${held.run.facts.id}`
  const base = wanted?.base ?? workspace.baseBranch
  if (held.run.pushed?.commit !== commit) {
    const to = forge === 'test' ? 'test' : 'source'
    await pause('push.before')
    await workspace.push({ commit, branch, base, to, signal: held.signal })
    await pause('push.after')
    await held.send({ type: 'pushed', branch, commit, repository: order.workspaceSource.repository })
  }
  const delivered = { branch, commit, ...found }
  if (mode === 'branch') return { mode, ...delivered, ...(wanted === null ? { reason: 'no_forge' } : {}) }
  const prUrl = held.run.prUrl ?? (await openPullRequest(publication, { branch, base, wanted, ...found }))
  return { mode, ...delivered, prUrl }
}

/** The tree is delivered as the agent wrote it; what a reader should look at twice is said beside it. */
async function searchForSecrets({
  workspace,
  commit,
  clean,
}: Publication): Promise<Pick<Delivery, 'likelySecrets'>> {
  const diff = await workspace.searchableDiff(commit)
  const likelySecrets = diff === undefined ? 0 : linesWithSecrets(diff, clean)
  return likelySecrets === 0 ? {} : { likelySecrets }
}

/**
 * What can be delivered: a pull request needs a forge. Without one the default is a branch, and asked for
 * explicitly the run fails with `RunFails`: asked before the agent works, that costs nothing.
 */
export function deliveryMode({ delivery }: OrderFacts, forge: Publication['forge']): DeliveryRequest['mode'] {
  const wanted = delivery?.mode ?? 'pull_request'
  if (wanted !== 'pull_request' || forge !== undefined) return wanted
  if (delivery === null) return 'branch'
  throw new RunFails({
    reason: 'delivery_failed',
    stage: 'delivery',
    message:
      'A pull request was asked for, but no credential with use "publish" reaches a forge for this repository.',
    hint: 'Add one with POST /v1/git-credentials, or ask for delivery mode "branch".',
    retryable: false,
  })
}

interface Target {
  branch: string
  base: string
  wanted: DeliveryRequest | null
  likelySecrets?: number
}

async function openPullRequest(publication: Publication, target: Target): Promise<string> {
  const { held, order, forge, runUrl, clean, pause } = publication
  const { branch, base, wanted, likelySecrets = 0 } = target
  const draft = wanted?.draft ?? false
  invariant(forge, 'a pull request is opened on a forge')
  if (forge === 'test') {
    // No forge shows it to anybody; the change itself can be looked at.
    const prUrl = `${runUrl}/artifacts/changes.diff`
    await held.send({ type: 'pull_request', prUrl, number: null, branch, draft })
    return prUrl
  }
  await pause('pull_request.before')
  const opened = await forge.createPullRequest(
    {
      title: clean(wanted?.title ?? titleOf(clean(order.taskPrompt))),
      body: clean(bodyOf(publication, likelySecrets)),
      head: branch,
      base,
      draft,
      labels: wanted?.labels ?? [],
      reviewers: wanted?.reviewers ?? [],
    },
    held.signal,
  )
  await pause('pull_request.after')
  const prUrl = clean(opened.url)
  await held.send({ type: 'pull_request', prUrl, number: opened.number, branch, draft })
  return prUrl
}

const TITLE_CHARACTERS = 72

function titleOf(prompt: string): string {
  const line =
    prompt
      .trim()
      .split('\n', 1)[0]
      ?.replaceAll(/[\p{Cc}\s]+/gu, ' ')
      .trim() || 'AgentGate change'
  return line.length <= TITLE_CHARACTERS ? line : `${line.slice(0, TITLE_CHARACTERS - 1)}…`
}

function bodyOf({ held, order, gates, runUrl, clock }: Publication, likelySecrets: number): string {
  const credits = creditsCharged(costSoFar(held.run, clock.now()))
  return pullRequestBody({
    prompt: order.taskPrompt,
    gates: gates.map(({ name, level, outcome, durationMs }) => ({
      name,
      level,
      outcome: outcome === 'passed' || outcome === 'skipped' ? outcome : 'failed',
      durationMs,
    })),
    likelySecrets,
    cost: { credits, estimated: held.run.estimated },
    runId: held.run.facts.id,
    runUrl,
  })
}
