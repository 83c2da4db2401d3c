import type { GateCheck } from '../domain/gate-plan.ts'
import type { Clock } from '../lib/clock.ts'
import type { Change, CheckResult } from './check.ts'
import { compileGlob, compilePattern } from './pattern.ts'
import { Turn } from './turn.ts'

type ForbidCheck = Extract<GateCheck, { type: 'forbid' }>

export interface ForbidSearch extends Change {
  timeoutSeconds: number
  clock: Clock
  signal: AbortSignal
}

/** Enough to act on; the search ends with them. */
const MAX_FINDINGS = 20

/** Long lines are looked at in overlapping windows: a match longer than the overlap may be missed. */
const WINDOW = { characters: 8_192, overlap: 1_024 }

/** Looks for what the change must not have, giving way to other work as it goes. */
export async function checkForbidden(check: ForbidCheck, search: ForbidSearch): Promise<CheckResult> {
  const timeout = new AbortController()
  const forget = search.clock.after(search.timeoutSeconds * 1000, () => timeout.abort())
  try {
    const turn = new Turn(search.clock, AbortSignal.any([search.signal, timeout.signal]))
    const found = [
      ...(await forbiddenPaths(check, search, turn)),
      ...(await forbiddenLines(check, search, turn)),
    ]
    if (found.length === 0) {
      return { outcome: 'passed', summary: 'The change has nothing forbidden.', output: '', exitCode: null }
    }
    const output = found.slice(0, MAX_FINDINGS).join('\n')
    return { outcome: 'failed', summary: 'The change has what is forbidden.', output, exitCode: null }
  } catch (error) {
    if (search.signal.aborted || !timeout.signal.aborted) throw error
    const summary = `The search was stopped after ${search.timeoutSeconds} s.`
    return { outcome: 'timed_out', summary, output: '', exitCode: null }
  } finally {
    forget()
  }
}

async function forbiddenPaths(check: ForbidCheck, change: Change, turn: Turn): Promise<string[]> {
  const found: string[] = []
  for (const glob of check.paths ?? []) {
    const compiled = compileGlob(glob)
    for (const path of change.changedPaths) {
      if (turn.isOver()) await turn.next()
      if (compiled.test(path)) found.push(`${path}: this path must not change (${glob})`)
      if (found.length >= MAX_FINDINGS) return found
    }
  }
  return found
}

/** Places and patterns only: the text itself may be a secret. */
async function forbiddenLines(check: ForbidCheck, change: Change, turn: Turn): Promise<string[]> {
  const patterns = (check.patterns ?? []).map((source) => ({ source, compiled: compilePattern(source) }))
  const found: string[] = []
  if (patterns.length === 0) return found
  for await (const { path, line, text } of await change.addedLines()) {
    const hit = await firstMatch(patterns, text, turn)
    if (hit !== null) found.push(`${path}:${line}: matches ${hit}`)
    if (found.length >= MAX_FINDINGS) break
  }
  return found
}

interface Pattern {
  source: string
  compiled: { test(text: string): boolean }
}

async function firstMatch(patterns: readonly Pattern[], text: string, turn: Turn): Promise<string | null> {
  for (const window of windowsOf(text)) {
    for (const { source, compiled } of patterns) {
      if (turn.isOver()) await turn.next()
      if (compiled.test(window)) return source
    }
  }
  return null
}

function* windowsOf(text: string): Generator<string> {
  const step = WINDOW.characters - WINDOW.overlap
  for (let start = 0; start === 0 || start + WINDOW.overlap < text.length; start += step) {
    yield text.slice(start, start + WINDOW.characters)
  }
}
