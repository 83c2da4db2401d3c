import type { GateSummary } from '../domain/event.ts'
import type { DeliveryRequest, OrderFacts } from '../domain/facts.ts'
import type { Delivery } from '../domain/lifecycle.ts'
import { creditsCharged } from '../domain/money.ts'
import type { HeldRun } from '../domain/performer.ts'
import { costSoFar } from '../domain/run.ts'
import type { Clock } from '../lib/clock.ts'
import { invariant } from '../lib/invariant.ts'
import type { Forge } from '../workspaces/forges/forge.ts'
import { pullRequestBody } from '../workspaces/forges/pull-request-body.ts'
import type { Workspace } from '../workspaces/workspace.ts'
import type { Clean } from './clean-json.ts'
import { RunFails } from './run-fails.ts'

export interface Publication {
  held: HeldRun
  order: OrderFacts
  workspace: Workspace
  commit: string
  gates: readonly GateSummary[]
  /** The forge of the repository; nothing where there is none or no credential for it. `test` stays in the server. */
  forge: Forge | 'test' | undefined
  /** Where a test run's branch can be looked at. */
  testUrlOf: (branch: string) => string
  runUrl: string
  clean: Clean
  clock: Clock
}

/**
 * Pushes the verified commit and opens the pull request. Each half is recorded when it is done and harmless when
 * it is done again, so a crash between them is resumed. Throws `DeliveryError`, `RunFails`.
 */
export async function publish(publication: Publication): Promise<Delivery> {
  const { held, order, workspace, commit, forge } = publication
  const wanted = order.delivery
  const mode = deliveryMode(order, forge)
  if (mode === 'none') return { mode, commit }
  const branch = wanted?.branch ?? `agentgate/${held.run.facts.id}`
  const base = wanted?.base ?? workspace.baseBranch
  if (held.run.pushed?.commit !== commit) {
    const to = forge === 'test' ? 'test' : 'source'
    await workspace.push({ commit, branch, base, to, signal: held.signal })
    await held.send({ type: 'pushed', branch, commit, repository: order.workspaceSource.repository })
  }
  if (mode === 'branch') return { mode, branch, commit, ...(wanted === null ? { reason: 'no_forge' } : {}) }
  const prUrl = held.run.prUrl ?? (await openPullRequest(publication, { branch, base, wanted }))
  return { mode, branch, commit, prUrl }
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
}

async function openPullRequest(publication: Publication, { branch, base, wanted }: Target): Promise<string> {
  const { held, order, forge, testUrlOf, clean } = publication
  const draft = wanted?.draft ?? false
  invariant(forge, 'a pull request is opened on a forge')
  if (forge === 'test') {
    const prUrl = testUrlOf(branch)
    await held.send({ type: 'pull_request', prUrl, number: null, branch, draft })
    return prUrl
  }
  const opened = await forge.createPullRequest(
    {
      title: wanted?.title ?? titleOf(clean(order.taskPrompt)),
      body: clean(bodyOf(publication)),
      head: branch,
      base,
      draft,
      labels: wanted?.labels ?? [],
      reviewers: wanted?.reviewers ?? [],
    },
    held.signal,
  )
  await held.send({ type: 'pull_request', prUrl: opened.url, number: opened.number, branch, draft })
  return opened.url
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

function bodyOf({ held, order, gates, runUrl, clock }: Publication): string {
  const credits = creditsCharged(costSoFar(held.run, clock.now()))
  return pullRequestBody({
    prompt: order.taskPrompt,
    gates: gates.map(({ name, level, outcome, durationMs }) => ({
      name,
      level,
      outcome: outcome === 'passed' || outcome === 'skipped' ? outcome : 'failed',
      durationMs,
    })),
    cost: { credits, estimated: held.run.estimated },
    runId: held.run.facts.id,
    runUrl,
  })
}
