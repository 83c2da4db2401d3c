/** Runner summaries are short; longer lines are somebody's output and are not looked at. */
const LINE_CHARACTERS = 500

type Reading = (line: string) => number | null

const total = (line: string, counts: RegExp): number =>
  [...line.matchAll(counts)].reduce((sum, match) => sum + Number(match[1]), 0)

/** Each tells how many tests a line of one runner's summary says were executed, or `null` for other lines. */
const READINGS: readonly Reading[] = [
  // node:test and TAP
  (line) =>
    /^\s*[#ℹ] (?:tests|pass|fail|cancelled) \d+$/.test(line)
      ? total(line, /(?:pass|fail|cancelled) (\d+)/g)
      : null,
  // pytest
  (line) =>
    / in \d+\.\d+s\b/.test(line) &&
    /\b(?:no tests ran|\d+ (?:passed|failed|errors?|skipped|deselected))\b/.test(line)
      ? total(line, /(\d+) (?:passed|failed|errors?|xfailed|xpassed)\b/g)
      : null,
  // unittest
  (line) => (/^Ran \d+ tests? in /.test(line) ? total(line, /^Ran (\d+)/g) : null),
  // vitest, jest
  (line) =>
    /^\s*Tests:?\s+\d.*(?:\(\d+\)|\btotal)$/.test(line) ? total(line, /(\d+) (?:passed|failed)\b/g) : null,
  (line) => (/^\s*No test(?: file)?s found\b/i.test(line) ? 0 : null),
  // mocha
  (line) => (/^\s*\d+ (?:passing|failing)\b/.test(line) ? total(line, /(\d+) (?:passing|failing)/g) : null),
  // cargo
  (line) => (line.startsWith('test result: ') ? total(line, /(\d+) (?:passed|failed);/g) : null),
  // go
  (line) =>
    /^(?:ok|FAIL)\s+\S+\s+(?:[\d.]+s|\(cached\))/.test(line)
      ? Number(!line.includes('[no tests to run]'))
      : null,
  (line) => (line.endsWith('[no test files]') ? 0 : null),
]

/** node:test lists a file without any test as one passed test named by its path. */
const FILE_AS_TEST = /^(?:✔|ok \d+ -) (?:\/workspace\/)?(\S+\.[cm]?[jt]s)(?: \([\d.]+ms\))?$/

/**
 * How many tests the runners in this output say they executed, skipped ones not counted; `null` when no runner
 * is recognised. Deleted, emptied, skipped or deselected suites show here. The limit: this believes what is
 * printed, so a change that prints a false summary is not caught, nor a makefile whose target does less, nor tests
 * that run but assert less.
 */
export function countTestsRun(output: string, files: ReadonlySet<string>): number | null {
  let executed: number | null = null
  let emptyFiles = 0
  for (const line of output.split('\n')) {
    if (line.length > LINE_CHARACTERS) continue
    const file = FILE_AS_TEST.exec(line)?.[1]
    if (file !== undefined && files.has(file)) emptyFiles++
    for (const read of READINGS) {
      const count = read(line)
      if (count !== null) executed = (executed ?? 0) + count
    }
  }
  return executed === null ? null : Math.max(0, executed - emptyFiles)
}
