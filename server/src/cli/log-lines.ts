import { plain, type Terminal, type Tone } from './terminal.ts'

/** A line of the log as pino writes it. */
interface LogLine {
  level: number
  time: number
  msg?: string
  err?: { message?: string; stack?: string } | string
  [fact: string]: unknown
}

/** Takes the log, one JSON object a line, and says it to a person: the time, the sentence, and what it is about. */
export const logLines = (terminal: Terminal): { write(line: string): void } => ({
  write: (line) => terminal.say(readable(JSON.parse(line), terminal)),
})

function readable({ level, time, msg = '', err, ...facts }: LogLine, terminal: Terminal): string {
  const about = Object.entries(facts).map(([name, value]) => `${name}=${shown(value)}`)
  const line = [
    terminal.paint('dim', new Date(time).toTimeString().slice(0, 8)),
    ...labelOf(level).map(([tone, word]) => terminal.paint(tone, word)),
    plain(msg),
    terminal.paint('dim', about.join(' ')),
  ]
  const failure = typeof err === 'string' ? err : (err?.stack ?? err?.message ?? '')
  const trace = failure.split('\n').map((each) => `    ${plain(each)}`)
  return [line.filter((part) => part !== '').join(' '), ...(err ? trace : [])].join('\n')
}

/** Above what is only worth knowing. */
const labelOf = (level: number): [Tone, string][] =>
  level >= 50 ? [['red', 'error:']] : level >= 40 ? [['yellow', 'warning:']] : []

const shown = (value: unknown): string => plain(typeof value === 'string' ? value : JSON.stringify(value))
