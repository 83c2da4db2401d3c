import { isFinalEvent, type RunEvent } from '../../../sdk/typescript/src/index.ts'
import { activityAfter, detailOf, lineOf, seconds, toneOf } from './event-line.ts'
import { plain, type Terminal } from './terminal.ts'

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
const FRAME_MS = 80
const ERASE_LINE = '\r\u001B[2K'
const TYPE_WIDTH = 22

/** Beginnings are what the spinner shows; as lines of their own they would say everything twice. */
const SPUN = new Set<string>(['step.started', 'tool.requested', 'tool.started', 'verification.started'])

/**
 * A run as it happens. For a person: a line per fact, with the time since the run was created, and below them what
 * is being done now. Otherwise one line per event, or its envelope as JSON.
 */
export class LiveView implements Disposable {
  readonly #terminal: Terminal
  readonly #json: boolean
  #createdAt: number | undefined
  #activity: { text: string; since: number } | undefined
  #timer: NodeJS.Timeout | undefined
  #frame = 0

  constructor(terminal: Terminal, { json = false }: { json?: boolean | undefined } = {}) {
    this.#terminal = terminal
    this.#json = json
  }

  show(event: RunEvent): void {
    if (this.#json) return this.#terminal.data(JSON.stringify(event))
    if (!this.#terminal.isInteractive) return this.#terminal.data(lineOf(event))
    const at = Date.parse(event.createdAt)
    this.#createdAt ??= at
    if (isFinalEvent(event)) this[Symbol.dispose]()
    else this.#spin(activityAfter(event) ?? 'working')
    if (!SPUN.has(event.type)) this.note(this.#factLine(event, at - this.#createdAt))
  }

  /** A line between the events, above what is being done. */
  note(line: string): void {
    this.#erase()
    this.#terminal.data(line)
    this.#draw()
  }

  #factLine(event: RunEvent, sinceCreationMs: number): string {
    const { columns } = this.#terminal
    const tone = toneOf(event)
    const head = `#${event.seq}`.padEnd(5)
    const time = seconds(sinceCreationMs).padStart(8)
    const type = plain(event.type).padEnd(TYPE_WIDTH)
    const room = columns - head.length - time.length - type.length - 4
    const detail = plain(detailOf(event), Math.max(room, 20))
    const paint = (text: string): string => (tone ? this.#terminal.paint(tone, text) : text)
    return `${this.#terminal.paint('dim', `${head}${time}`)}  ${paint(type)} ${paint(detail)}`
  }

  #spin(text: string): void {
    this.#activity = { text, since: performance.now() }
    this.#timer ??= setInterval(() => {
      this.#frame = (this.#frame + 1) % FRAMES.length
      this.#draw()
    }, FRAME_MS).unref()
    this.#draw()
  }

  #draw(): void {
    if (this.#activity === undefined) return
    const { text, since } = this.#activity
    const line = `${FRAMES[this.#frame]} ${text} ${seconds(performance.now() - since)}`
    this.#terminal.streams.stdout.write(ERASE_LINE + plain(line, this.#terminal.columns - 1))
  }

  #erase(): void {
    if (this.#timer !== undefined) this.#terminal.streams.stdout.write(ERASE_LINE)
  }

  [Symbol.dispose](): void {
    this.#erase()
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#activity = undefined
  }
}
