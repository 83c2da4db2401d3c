import { GATE_DEFAULTS, type Gate, type GatePlan } from '../domain/gate-plan.ts'
import { SECRET_FORMS } from '../lib/redact.ts'
import { compileGlob } from './pattern.ts'

/** Without `=======`, which underlines headings. */
const CONFLICT_MARKERS = ['^(<<<<<<<|>>>>>>>|\\|\\|\\|\\|\\|\\|\\|) \\S']

/** Files that test runners collect by their names. */
const TEST_FILES =
  '**/{*{.,-,_}{test,spec}.{js,cjs,mjs,jsx,ts,cts,mts,tsx,py,go,rb},test{_,-}*.{py,js,cjs,mjs,ts},' +
  '{test,tests,__tests__,spec}/**/*.{js,cjs,mjs,jsx,ts,cts,mts,tsx,rs,c,cc,cpp,sh,rb}}'

const testFile = compileGlob(TEST_FILES)

/** The first look is for speed: a repository may have a hundred thousand files. */
export const isTestFile = (path: string): boolean => /test|spec/.test(path) && testFile.test(path)

export const SECRETS_GATE: Gate = {
  name: 'secrets',
  level: 'L0',
  check: { type: 'forbid', patterns: [...SECRET_FORMS] },
  ...GATE_DEFAULTS,
}

export const CONFLICT_GATE: Gate = {
  name: 'conflict markers',
  level: 'L0',
  check: { type: 'forbid', patterns: CONFLICT_MARKERS },
  ...GATE_DEFAULTS,
}

/**
 * Stands in a plan when the base commit had tests: some must remain. What this cannot see, such as one file of
 * many deleted or a test that asserts less, is left to reviewers; see `tests-run.ts` for tests that no longer run.
 */
export const TESTS_PRESENT_GATE: Gate = {
  name: 'tests_present',
  level: 'L0',
  check: { type: 'files', required: [TEST_FILES] },
  ...GATE_DEFAULTS,
}

/**
 * Whether the base commit had tests, as far as a plan tells: a plan that names its own commands means them to
 * test something, and so does a detected one whose guards were left out by `levels`.
 */
export function hadTests(plan: GatePlan): boolean {
  const names = new Set(plan.gates.map((gate) => gate.name))
  return plan.source !== 'detected' || names.has(TESTS_PRESENT_GATE.name) || !names.has(SECRETS_GATE.name)
}
