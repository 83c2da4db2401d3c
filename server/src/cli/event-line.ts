import type { GateSummary, RunEvent } from '../../../sdk/typescript/src/index.ts'
import { plain, type Tone } from './terminal.ts'

const TEXT_CHARACTERS = 160

/** One event as one line: its seq, its type and what matters of its data. */
export const lineOf = (event: RunEvent): string =>
  `#${event.seq} ${plain(event.type)} ${detailOf(event)}`.trimEnd()

/** What matters of an event's data, on one line. */
export function detailOf(event: RunEvent): string {
  switch (event.type) {
    case 'run.created':
    case 'run.started':
    case 'run.tool_required':
    case 'run.waiting_approval':
    case 'run.resumed':
    case 'run.cancel_requested':
      return words(event.data.statusReason)
    case 'run.limit_warning':
      return words(event.data.limit, `${event.data.used} of ${event.data.max}`)
    case 'run.completed':
      return words(
        event.data.statusReason,
        `verification ${event.data.verification}`,
        credits(event.data.cost.credits),
      )
    case 'run.failed':
    case 'run.canceled':
      return words(event.data.statusReason, event.data.error?.message, credits(event.data.cost.credits))
    case 'workspace.ready':
      return words(
        event.data.repository,
        `${event.data.branch}@${short(event.data.commit)}`,
        `jail ${event.data.jail}`,
      )
    case 'iteration.started':
      return `iteration ${event.data.iteration}`
    case 'iteration.completed':
      return words(
        `iteration ${event.data.iteration}`,
        event.data.changed ? `commit ${short(event.data.commit)}` : 'nothing changed',
      )
    case 'step.started':
      return words(`step ${event.data.step}`, event.data.model)
    case 'step.completed':
      return words(
        `step ${event.data.step}`,
        `${event.data.usage.inputTokens} tokens in, ${event.data.usage.outputTokens} out`,
      )
    case 'message.completed':
      return plain(event.data.text, TEXT_CHARACTERS)
    case 'tool.requested':
      return words(event.data.name, JSON.stringify(event.data.arguments))
    case 'tool.started':
      return words(event.data.name)
    case 'tool.completed':
      return words(event.data.name, seconds(event.data.durationMs), event.data.preview)
    case 'tool.failed':
      return words(event.data.name, seconds(event.data.durationMs), event.data.code, event.data.message)
    case 'verification.started':
      return words(event.data.gates.join(', '))
    case 'verification.passed':
    case 'verification.failed':
      return words(`iteration ${event.data.iteration}:`, gates(event.data.gates))
    case 'delivery.pushed':
      return words(`${event.data.branch}@${short(event.data.commit)}`)
    case 'delivery.pull_request':
      return words(event.data.prUrl)
    default:
      return ''
  }
}

/** How an event is to be taken: good news, bad news, a thing under way, or just a fact. */
export function toneOf({ type }: RunEvent): Tone | undefined {
  if (/^(?:run\.completed|verification\.passed|delivery\.\w+)$/.test(type)) return 'green'
  if (/^(?:run|tool)\.(?:failed|canceled|expired)$|^verification\.failed$/.test(type)) return 'red'
  if (/^(?:run\.(?:limit_warning|tool_required|waiting_approval|cancel_requested))$/.test(type))
    return 'yellow'
  return type === 'message.completed' ? 'cyan' : undefined
}

/** What is being done after an event that says that something begins; nothing for any other. */
export function activityAfter(event: RunEvent): string | undefined {
  switch (event.type) {
    case 'run.created':
      return 'waiting for a free slot'
    case 'run.started':
      return 'preparing the workspace'
    case 'step.started':
      return `step ${event.data.step}: ${plain(event.data.model, 60)} is thinking`
    case 'tool.requested':
    case 'tool.started':
      return plain(event.data.name, 60)
    case 'verification.started':
      return `gates: ${plain(event.data.gates.join(', '), 60)}`
    default:
      return undefined
  }
}

const words = (...parts: (string | null | undefined)[]): string =>
  plain(parts.filter((part) => part !== null && part !== undefined && part !== '').join(' '), TEXT_CHARACTERS)

const short = (commit: string): string => commit.slice(0, 7)

export const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`

export const credits = (amount: number): string => `${amount} ${amount === 1 ? 'credit' : 'credits'}`

const gates = (results: readonly GateSummary[]): string =>
  results
    .map(({ name, outcome, summary }) =>
      outcome === 'passed' ? `${name} passed` : `${name} ${outcome}: ${summary}`,
    )
    .join(' · ')
