import { UsageError } from './failure.ts'
import type { Terminal } from './terminal.ts'

const LONGEST = 100_000
const ENTER = /[\r\n]/
const INTERRUPT = '\u0003'
const ERASE = /[\b\u007F]/

/** A secret from standard input: asked for without echo where a person sits there, else all there is. */
export async function readSecret(terminal: Terminal, question: string): Promise<string> {
  const { stdin } = terminal.streams
  const secret = (stdin.isTTY ? await ask(terminal, question) : await readAll(stdin)).trim()
  if (secret === '') throw new UsageError('The secret is empty: give it on standard input.')
  return secret
}

async function readAll(stdin: NodeJS.ReadableStream): Promise<string> {
  let text = ''
  for await (const chunk of stdin) {
    text += String(chunk)
    if (text.length > LONGEST) throw new UsageError('What came on standard input is too long for a secret.')
  }
  return text
}

async function ask({ streams }: Terminal, question: string): Promise<string> {
  const { stdin, stderr } = streams
  stderr.write(`${question}: `)
  stdin.setRawMode?.(true)
  let typed = ''
  try {
    for await (const chunk of stdin) {
      for (const character of String(chunk)) {
        if (ENTER.test(character)) return typed
        if (character === INTERRUPT) throw new UsageError('Nothing was changed.')
        typed = ERASE.test(character) ? typed.slice(0, -1) : typed + character
      }
    }
    return typed
  } finally {
    stdin.setRawMode?.(false)
    stderr.write('\n')
  }
}
