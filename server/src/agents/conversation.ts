import type { DriverContext, JournalEntry } from '../domain/agent.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../domain/json.ts'
import type { ToolCallId, ToolOutcome } from '../domain/tool-call.ts'
import { cleanJson } from '../lib/clean-json.ts'
import { type Clean, MASK } from '../lib/redact.ts'
import { middleOut } from '../lib/text.ts'
import { outcomesOf, type StepEntry } from './journal.ts'
import { estimateTokens, FINISHES, type Finish } from './model-step.ts'

/** What the loop writes into the journal for a step. */
export interface StepRecord {
  model: string
  finish: Finish
  messages: JsonObject[]
}

/** The latest steps stay whole, whatever the size. */
const STEPS_KEPT = 6
/** Older steps are shortened in portions, so that the beginning stays the same for a while and can be cached. */
const PORTION = 8
const ELIDED_CHARS = 400
const SUMMARY_CHARS = 24_000
const CROWDED_RESULT_CHARS = 4_000

/** Reads a record back; null for one of another driver. */
export function readRecord(record: JsonValue): StepRecord | null {
  if (!isJsonObject(record) || !Array.isArray(record['messages'])) return null
  const finish = FINISHES.find((known) => known === record['finish'])
  if (finish === undefined || typeof record['model'] !== 'string') return null
  return { model: record['model'], finish, messages: record['messages'].filter(isJsonObject) }
}

/**
 * The record as it is kept: without secrets in what the model said. What a provider sealed cannot be read here and
 * must go back as it came, so reasoning whose readable part holds a secret is left out with its seal.
 */
export function cleanRecord(record: JsonValue, clean: Clean): JsonValue {
  const read = readRecord(record)
  if (read === null) return cleanJson(record, clean)
  const messages = read.messages.map((message): JsonObject => {
    const { content } = message
    if (!Array.isArray(content)) return { ...message, content: cleanJson(content ?? '', clean) }
    return { ...message, content: content.filter(isJsonObject).flatMap((part) => cleanPart(part, clean)) }
  })
  return { model: read.model, finish: read.finish, messages }
}

function cleanPart(part: JsonObject, clean: Clean): JsonObject[] {
  const { providerOptions, toolName, ...rest } = part
  const shown = cleanJson(rest, clean)
  if (part['type'] === 'reasoning' && providerOptions !== undefined && shown['text'] !== part['text'])
    return []
  return [
    {
      ...shown,
      ...(typeof toolName === 'string' && { toolName: cleanName(toolName, clean) }),
      ...(providerOptions !== undefined && { providerOptions }),
    },
  ]
}

/** Providers take back names of tools in letters, digits, `_` and `-` only. */
export const cleanName = (name: string, clean: Clean): string => clean(name).replaceAll(MASK, '_secret_')

/**
 * The conversation so far, as a pure function of the journal: the prompt, the recorded steps each with the
 * results of its calls, and feedback. Over the budget (estimated tokens) old results are left out first, then
 * the oldest steps give way to a list of what they did, at last long results and long words are cut. The journal
 * stays whole.
 */
export function conversationOf(
  context: Pick<DriverContext, 'input'>,
  journal: readonly JournalEntry[],
  { model, budgetTokens }: { model: string; budgetTokens: number },
): JsonObject[] {
  const exchanges = exchangesOf(journal, model)
  const prompt = user(promptOf(context.input))
  const fits = (messages: JsonObject[]): boolean =>
    estimateTokens(JSON.stringify(messages).length) <= budgetTokens
  const latest = Math.max(0, exchanges.length - STEPS_KEPT)
  let best: JsonObject[] = []
  for (const elided of [0, portioned(latest)]) {
    best = [
      prompt,
      ...exchanges.flatMap((exchange, at) => shown(exchange, at < elided ? ELIDED_CHARS : null)),
    ]
    if (fits(best)) return best
  }
  for (let from = PORTION; from < latest + PORTION; from += PORTION) {
    const summarised = Math.min(from, latest)
    const kept = exchanges.slice(summarised)
    const old = portioned(latest) - summarised
    const head = [prompt, user(summaryOf(exchanges.slice(0, summarised)))]
    best = [...head, ...kept.flatMap((exchange, at) => shown(exchange, at < old ? ELIDED_CHARS : null))]
    if (fits(best)) return best
  }
  const rest = exchanges.slice(latest).flatMap((exchange) => shown(exchange, CROWDED_RESULT_CHARS))
  return latest === 0 ? [prompt, ...rest] : [prompt, user(summaryOf(exchanges.slice(0, latest))), ...rest]
}

const portioned = (steps: number): number => steps - (steps % PORTION)

const promptOf = (input: JsonValue): string =>
  typeof input === 'string' ? input : JSON.stringify(input, null, 2)

const user = (text: string): JsonObject => ({ role: 'user', content: text })

// Exchanges -------------------------------------------------------------------------------------------------

/** A step with the answers to its calls and the feedback that followed it. */
interface Exchange {
  step: StepEntry | null
  messages: JsonObject[]
  cutShort: boolean
  outcomes: Map<ToolCallId, ToolOutcome>
  feedback: string[]
}

function exchangesOf(journal: readonly JournalEntry[], model: string): Exchange[] {
  const outcomes = outcomesOf(journal)
  const exchanges: Exchange[] = []
  for (const entry of journal) {
    if (entry.kind === 'step') {
      const record = readRecord(entry.record)
      exchanges.push({
        step: entry,
        messages: record ? foreign(record, model) : [{ role: 'assistant', content: entry.text }],
        cutShort: record?.finish === 'length' && entry.calls.length === 0,
        outcomes,
        feedback: [],
      })
    } else if (entry.kind === 'feedback') {
      const last = exchanges.at(-1)
      if (last) last.feedback.push(entry.text)
      else exchanges.push({ step: null, messages: [], cutShort: false, outcomes, feedback: [entry.text] })
    }
  }
  return exchanges
}

const providerOf = (model: string): string => model.slice(0, model.indexOf('/'))

/** Reasoning is sealed for the provider that made it; another one would refuse it. */
function foreign(record: StepRecord, model: string): JsonObject[] {
  if (providerOf(record.model) === providerOf(model)) return record.messages
  return record.messages.map(({ role, content }) => ({
    role: role ?? 'assistant',
    content: Array.isArray(content)
      ? content
          .filter(isJsonObject)
          .filter((part) => part['type'] !== 'reasoning')
          .map(withoutMetadata)
      : (content ?? ''),
  }))
}

function withoutMetadata(part: JsonObject): JsonObject {
  const { providerOptions: _, ...rest } = part
  return rest
}

/** The messages of an exchange; every call gets exactly one result. */
function shown(exchange: Exchange, resultChars: number | null): JsonObject[] {
  const said = exchange.messages.filter(({ content }) => !Array.isArray(content) || content.length > 0)
  const messages = said.map((message) => shortenedWords(message, resultChars))
  const results = (exchange.step?.calls ?? []).map((call): JsonObject => {
    const outcome = exchange.outcomes.get(call.id)
    const text = outcome?.content ?? 'The result of this call was lost.'
    return {
      type: 'tool-result',
      toolCallId: call.providerId,
      toolName: call.name,
      output: { type: outcome?.ok ? 'text' : 'error-text', value: shortened(text, resultChars) },
    }
  })
  if (results.length > 0) messages.push({ role: 'tool', content: results })
  if (exchange.cutShort)
    messages.push(user('Your answer was cut off at its length limit. Go on in smaller steps.'))
  return [...messages, ...exchange.feedback.map(user)]
}

/** Where even the latest steps do not fit, what the model said is cut like a result; reasoning and calls stay whole. */
function shortenedWords(message: JsonObject, chars: number | null): JsonObject {
  const { content } = message
  if (chars === null || chars <= ELIDED_CHARS || !Array.isArray(content)) return message
  const parts = content.filter(isJsonObject).map((part) => {
    const { type, text } = part
    return type === 'text' && typeof text === 'string' ? { ...part, text: middleOut(text, chars) } : part
  })
  return { ...message, content: parts }
}

function shortened(text: string, chars: number | null): string {
  if (chars === null || text.length <= chars) return text
  if (chars > ELIDED_CHARS) return middleOut(text, chars)
  return `[${text.length} characters of an old result are left out; call the tool again if you need them]`
}

/** What the left-out steps did, a line a call, made without a model so that it is the same each time. */
function summaryOf(exchanges: readonly Exchange[]): string {
  const lines = exchanges.flatMap(({ step, outcomes, feedback }) => [
    ...(step?.text ? [`You said: ${oneLine(step.text, 200)}`] : []),
    ...(step?.calls ?? []).map((call) => {
      const args = oneLine(JSON.stringify(call.arguments), 160)
      return `You called ${call.name} ${args}: ${outcomes.get(call.id)?.ok ? 'went well' : 'failed'}`
    }),
    ...feedback.map((text) => `You were told: ${oneLine(text, 2_000)}`),
  ])
  const head = 'Earlier steps of this conversation are left out. What they did, in order:'
  return `${head}\n${middleOut(lines.join('\n'), SUMMARY_CHARS)}`
}

const oneLine = (text: string, chars: number): string => {
  const line = text.replaceAll(/\s+/g, ' ').trim()
  return line.length <= chars ? line : `${line.slice(0, chars)}…`
}
