import { setImmediate as turn } from 'node:timers/promises'
import { isJsonObject, type JsonObject, type JsonValue } from '../domain/json.ts'

/** A frame this long holds no answer that would be taken. */
const MAX_FRAME_CHARACTERS = 8 * 2 ** 20
/** Of an answer that is no stream: an error, with its explanation. */
const MAX_BODY_BYTES = 2 ** 20
/** Characters handed on before others get their turn. */
const PORTION_CHARACTERS = 16 * 1024

/**
 * `fetch` for a provider's SDK, which spends a quarter of a millisecond on each frame, whatever is in it, and lets
 * nobody else run meanwhile: frames that arrive together are joined where they say more of the same, long answers are
 * handed on in portions, and what has no end is refused. `onBytes` hears of each sign of life.
 */
export function modelFetch(onBytes: () => void): typeof fetch {
  return async (input, init) => {
    const answer = await fetch(input, init)
    onBytes()
    if (answer.body === null) return answer
    const isStream = answer.headers.get('content-type')?.startsWith('text/event-stream') ?? false
    const body = answer.body.pipeThrough(isStream ? joinFrames(onBytes) : boundBody(onBytes))
    return new Response(body, answer)
  }
}

function boundBody(onBytes: () => void): TransformStream<Uint8Array, Uint8Array> {
  let bytes = 0
  return new TransformStream({
    transform(chunk, controller) {
      onBytes()
      bytes += chunk.length
      if (bytes > MAX_BODY_BYTES) controller.terminate()
      else controller.enqueue(chunk)
    },
  })
}

function joinFrames(onBytes: () => void): TransformStream<Uint8Array, Uint8Array> {
  const decoder = new TextDecoder()
  const encoder = new TextEncoder()
  /** The beginning of a frame whose end has not come, and its last characters. */
  const open: string[] = []
  let openCharacters = 0
  let seam = ''
  const keep = (text: string): void => {
    open.push(text)
    openCharacters += text.length
    seam = (seam + text).slice(-3)
    if (openCharacters > MAX_FRAME_CHARACTERS) throw new Error('a frame of the answer has no end')
  }
  return new TransformStream({
    async transform(chunk, controller) {
      onBytes()
      const text = decoder.decode(chunk, { stream: true })
      const end = endOfFrames(seam + text) - seam.length
      if (end <= 0) {
        keep(text)
        return
      }
      const frames = open.splice(0).join('') + text.slice(0, end)
      openCharacters = 0
      seam = ''
      keep(text.slice(end))
      for (const portion of portions(joined(frames))) {
        controller.enqueue(encoder.encode(portion))
        await turn()
      }
    },
    flush(controller) {
      const last = open.join('') + decoder.decode()
      if (last !== '') controller.enqueue(encoder.encode(last))
    },
  })
}

/** Behind the last empty line, which ends a frame; 0 where there is none. */
function endOfFrames(text: string): number {
  const ends = ['\n\n', '\r\n\r\n'].map((mark) =>
    text.includes(mark) ? text.lastIndexOf(mark) + mark.length : 0,
  )
  return Math.max(...ends)
}

function* portions(frames: Iterable<string>): Generator<string> {
  let portion = ''
  for (const frame of frames) {
    portion += frame
    if (portion.length < PORTION_CHARACTERS) continue
    yield portion
    portion = ''
  }
  if (portion !== '') yield portion
}

/** Whole frames, in their order, as they came or joined with those before them. */
function* joined(text: string): Generator<string> {
  let held: Delta | null = null
  for (const frame of text.split(/(?<=\r?\n\r?\n)/)) {
    const delta = deltaOf(frame)
    if (held !== null && delta !== null && held.of === delta.of) {
      held.text += delta.text
      held.frame = null
      continue
    }
    if (held !== null) yield held.frame ?? held.withText(held.text)
    held = delta
    if (delta === null) yield frame
  }
  if (held !== null) yield held.frame ?? held.withText(held.text)
}

/** A frame that carries some more text and nothing else. */
interface Delta {
  /** What it is more of; equal for frames that can be joined. */
  of: string
  text: string
  /** As it came, until it is joined with others. */
  frame: string | null
  withText(text: string): string
}

/** Nothing for a frame of any other form, which then goes on as it came. */
function deltaOf(frame: string): Delta | null {
  const [, event = '', data] = /^(event: ?[^\r\n]*\r?\n)?data: ?([^\r\n]*)\r?\n\r?\n$/.exec(frame) ?? []
  if (data === undefined || !data.startsWith('{')) return null
  const body = parsed(data)
  const place = isJsonObject(body) ? (placeOfText(body) ?? null) : null
  if (!isJsonObject(body) || place === null) return null
  const { holder, member } = place
  const text = holder[member]
  if (typeof text !== 'string') return null
  holder[member] = ''
  const { sequence_number: _n, obfuscation: _o, ...lasting } = body
  return {
    of: `${event}${JSON.stringify(lasting)}`,
    text,
    frame,
    withText(whole) {
      holder[member] = whole
      return `${event}data: ${JSON.stringify(body)}\n\n`
    },
  }
}

function parsed(data: string): JsonValue {
  try {
    return JSON.parse(data) as JsonValue // JSON.parse gives exactly the values of JsonValue
  } catch {
    return null
  }
}

interface Place {
  holder: JsonObject
  member: string
}

/** Where the text of a delta stands, by protocol: Responses, Messages, Chat Completions. */
function placeOfText(body: JsonObject): Place | undefined {
  const { type, delta, choices } = body
  if (typeof type === 'string' && type.endsWith('.delta')) return { holder: body, member: 'delta' }
  if (type === 'content_block_delta' && isJsonObject(delta))
    return { holder: delta, member: textMember(delta) }
  const [choice, ...others] = Array.isArray(choices) ? choices : []
  if (!isJsonObject(choice) || others.length > 0) return undefined
  return isJsonObject(choice['delta']) ? placeInChoice(choice['delta']) : undefined
}

function textMember(delta: JsonObject): string {
  const type = delta['type']
  if (type === 'text_delta') return 'text'
  return type === 'thinking_delta' ? 'thinking' : type === 'input_json_delta' ? 'partial_json' : ''
}

function placeInChoice(delta: JsonObject): Place | undefined {
  const [call, ...others] = Array.isArray(delta['tool_calls']) ? delta['tool_calls'] : []
  if (isJsonObject(call) && others.length === 0) {
    // The head of a call has its id, and is a frame of its own.
    const { function: named, id } = call
    if (id !== undefined || !isJsonObject(named)) return undefined
    return { holder: named, member: 'arguments' }
  }
  const [member, ...more] = ['content', 'reasoning_content', 'reasoning'].filter((name) => name in delta)
  return member === undefined || more.length > 0 ? undefined : { holder: delta, member }
}
