import type { AddedLine } from '../gates/check.ts'
import type { Clean } from '../lib/redact.ts'

const HUNK = /^@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@/

/** The lines that a unified diff of git adds, with their place in the new file. */
export function* addedLines(diff: string): Generator<AddedLine> {
  let path = ''
  let line = 0
  let left = 0
  for (const text of diff.split('\n')) {
    if (left > 0) {
      if (text.startsWith('+')) yield { path, line, text: text.slice(1).replace(/\r$/, '') }
      if (!text.startsWith('-') && !text.startsWith('\\')) {
        line++
        left--
      }
      continue
    }
    const hunk = HUNK.exec(text)
    if (hunk !== null) {
      line = Number(hunk[1])
      left = Number(hunk[2] ?? 1)
    } else if (text.startsWith('+++ ')) path = newPath(text.slice(4))
  }
}

/** How many of the lines that a diff adds hold what would be masked elsewhere. */
export function linesWithSecrets(diff: string, clean: Clean): number {
  let count = 0
  for (const { text } of addedLines(diff)) if (clean(text) !== text) count++
  return count
}

function newPath(name: string): string {
  const plain = name.startsWith('"') ? unquote(name) : name.replace(/\t$/, '')
  return plain.startsWith('b/') ? plain.slice(2) : plain
}

const ESCAPES: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  t: '\t',
  n: '\n',
  v: '\v',
  f: '\f',
  r: '\r',
}

/** Names with special characters are quoted like strings of C. */
function unquote(name: string): string {
  const bytes: number[] = []
  const inner = name.slice(1, name.lastIndexOf('"'))
  for (let i = 0; i < inner.length; i++) {
    const octal = /^\\([0-7]{3})/.exec(inner.slice(i, i + 4))
    if (octal !== null) {
      bytes.push(Number.parseInt(octal[1] ?? '0', 8))
      i += 3
    } else if (inner[i] === '\\') {
      const letter = inner.charAt(++i)
      bytes.push((ESCAPES[letter] ?? letter).charCodeAt(0))
    } else bytes.push(...Buffer.from(inner.charAt(i)))
  }
  return Buffer.from(bytes).toString('utf8')
}
