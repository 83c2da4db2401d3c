import type { GateReport } from '../domain/gate-plan.ts'

/** What a check found, before its text is cleaned and cut. */
export type CheckResult = Pick<GateReport, 'outcome' | 'summary' | 'output' | 'exitCode'>

/** A line that the change added; `text` is without its newline. */
export interface AddedLine {
  path: string
  /** From 1, in the changed file. */
  line: number
  text: string
}

export interface Change {
  /** Lines that the change added, in any order; asked for once per gate that needs them. */
  addedLines: () => AsyncIterable<AddedLine> | Promise<Iterable<AddedLine>>
  /** Paths that the change added, changed or deleted. */
  changedPaths: readonly string[]
}
