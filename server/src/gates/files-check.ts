import type { GateCheck } from '../domain/gate-plan.ts'
import type { CheckResult } from './check.ts'
import { compileGlob } from './pattern.ts'
import type { Turn } from './turn.ts'

export async function checkFiles(
  check: Extract<GateCheck, { type: 'files' }>,
  files: ReadonlySet<string>,
  turn: Turn,
): Promise<CheckResult> {
  const missing: string[] = []
  for (const glob of check.required) if (!(await matchesAny(glob, files, turn))) missing.push(glob)
  if (missing.length === 0) {
    return { outcome: 'passed', summary: 'Every required file is there.', output: '', exitCode: null }
  }
  const output = missing.map((glob) => `no file matches ${glob}`).join('\n')
  return { outcome: 'failed', summary: 'Required files are missing.', output, exitCode: null }
}

async function matchesAny(glob: string, files: ReadonlySet<string>, turn: Turn): Promise<boolean> {
  const compiled = compileGlob(glob)
  for (const path of files) {
    if (turn.isOver()) await turn.next()
    if (compiled.test(path)) return true
  }
  return false
}
