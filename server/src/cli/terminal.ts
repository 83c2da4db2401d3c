import type { ReadStream, WriteStream } from 'node:tty'

/** The streams of a process, or what a test has instead. */
export interface Streams {
  stdin: NodeJS.ReadableStream & Partial<Pick<ReadStream, 'isTTY' | 'setRawMode'>>
  stdout: NodeJS.WritableStream & Partial<Pick<WriteStream, 'isTTY' | 'columns'>>
  stderr: NodeJS.WritableStream & Partial<Pick<WriteStream, 'isTTY'>>
}

const CODES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const

export type Tone = keyof typeof CODES

/** The process a command runs in, or what a test has instead. */
export type Host = Streams & Pick<NodeJS.Process, 'on' | 'off' | 'emit' | 'listenerCount' | 'exit' | 'ppid'>

/** Where a command speaks: data goes to standard output, talk to standard error. */
export class Terminal {
  readonly streams: Streams
  /** Whether a person looks at standard output. */
  readonly isInteractive: boolean
  readonly #wantsColour: boolean

  constructor(streams: Streams, { wantsColour }: { wantsColour: boolean }) {
    this.streams = streams
    this.isInteractive = streams.stdout.isTTY === true
    this.#wantsColour = wantsColour
  }

  get columns(): number {
    return this.streams.stdout.columns ?? 120
  }

  data(line: string): void {
    this.streams.stdout.write(`${line}\n`)
  }

  say(line: string): void {
    this.streams.stderr.write(`${line}\n`)
  }

  /** Coloured only where a person looks and wants it. */
  paint(tone: Tone, text: string): string {
    return this.isInteractive && this.#wantsColour ? `\u001B[${CODES[tone]}m${text}\u001B[0m` : text
  }
}

/** Text of others on one line: control characters and direction marks would work on the terminal. */
export function plain(text: string, most = Number.POSITIVE_INFINITY): string {
  const line = text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\s]+/gu, ' ').trim()
  return line.length > most ? `${line.slice(0, most - 1)}…` : line
}

/** Rows under their headings, in columns. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const cells = [headings, ...rows.map((row) => row.map((cell) => plain(cell)))]
  const widths = headings.map((_, at) => Math.max(...cells.map((row) => row[at]?.length ?? 0)))
  return cells.map((row) =>
    row
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}
