import type { Gate, GatePlan } from '../domain/gate-plan.ts'
import type { JailOutcome, JailSlot } from '../jail/command.ts'
import type { Change, CheckResult } from './check.ts'
import { NPM_TEST } from './detect.ts'
import { hadTests } from './guards.ts'
import { plainText } from './plain-text.ts'
import { countTestsRun } from './tests-run.ts'

/** A host folder that its maker removes. */
export interface FreshTree extends AsyncDisposable {
  readonly path: string
}

/** Kept of a gate's output by the jail; a flood costs no more. */
const OUTPUT_BYTES = 1_048_576

/** Makes runners print plainly and the same each time. */
const ENVIRONMENT = {
  CI: 'true',
  NO_COLOR: '1',
  TZ: 'UTC',
  LC_ALL: 'C.UTF-8',
  PYTHONHASHSEED: '0',
  PYTHONDONTWRITEBYTECODE: '1',
  npm_config_update_notifier: 'false',
  npm_config_offline: 'true',
}

export interface CommandGate extends Change {
  gate: Gate
  run: string
  plan: GatePlan
  slot: Pick<JailSlot, 'run' | 'own'>
  freshTree: () => Promise<FreshTree>
  files: ReadonlySet<string>
  signal: AbortSignal
}

/** Runs the gate's command in a fresh jail on a tree of its own. */
export async function checkCommand(command: CommandGate): Promise<CheckResult> {
  const { gate, slot, signal } = command
  await using tree = await command.freshTree()
  await slot.own(tree.path)
  const result = await slot.run({
    argv: ['/bin/sh', '-c', command.run],
    workspace: tree.path,
    env: ENVIRONMENT,
    timeoutMs: gate.timeoutSeconds * 1000,
    maxOutputBytes: OUTPUT_BYTES,
    signal,
  })
  signal.throwIfAborted()
  // The host's path of the tree is nobody's business and differs each time.
  const hidePath = (text: string): string => text.replaceAll(tree.path, '/workspace')
  const output = hidePath(result.output)
  const ended = { ...endOf(result, gate), output }
  ended.summary = hidePath(ended.summary)
  if (ended.outcome !== 'passed' && ended.outcome !== 'failed') return ended
  const tool = ended.exitCode === 127 ? missingTool(command.run, output) : null
  if (tool !== null) {
    const summary = `${tool} is not installed where gates run: install it there or give a plan without it.`
    return { ...ended, outcome: 'error', summary }
  }
  return gate.level === 'L1' ? judgeTests(ended, command) : ended
}

function endOf(result: JailOutcome, gate: Gate): Omit<CheckResult, 'output'> {
  switch (result.outcome) {
    case 'exited': {
      const { exitCode } = result
      const summary = `The command exited with code ${exitCode}.`
      return { outcome: exitCode === 0 ? 'passed' : 'failed', summary, exitCode }
    }
    case 'signaled':
      return { outcome: 'failed', summary: `The command died of ${result.signal}.`, exitCode: null }
    case 'timed_out':
      return {
        outcome: 'timed_out',
        summary: `The command was stopped after ${gate.timeoutSeconds} s.`,
        exitCode: null,
      }
    case 'disk_limit':
      return { outcome: 'failed', summary: result.reason, exitCode: null }
    case 'canceled':
      return { outcome: 'error', summary: 'The command was canceled.', exitCode: null }
    case 'refused_to_start':
      return {
        outcome: 'error',
        summary: `The command could not be started: ${result.reason}`,
        exitCode: null,
      }
  }
}

/** The program that the command begins with, when the shell says that there is none of that name. */
function missingTool(run: string, output: string): string | null {
  const program = run.split(/\s+/).find((word) => word !== '' && !/^[A-Za-z_][A-Za-z0-9_]*=/.test(word))
  const said = output.split('\n').some((line) => line.endsWith(` ${program}: not found`))
  return program !== undefined && said ? program : null
}

/** Runners that call the absence of tests a failure. */
const SAYS_NO_TESTS = /\bno test(?: file)?s (?:found|ran)\b/i

/**
 * Tests that did not run verify nothing. Where the base commit had tests, none running is a failure, and a
 * change that rewrites the test script must show by its runner's summary that tests still run.
 */
async function judgeTests(ending: CheckResult, command: CommandGate): Promise<CheckResult> {
  const { plan, gate } = command
  const output = plainText(ending.output)
  const executed = countTestsRun(output, command.files)
  if (executed === 0) {
    const nothingElseFailed = ending.outcome === 'passed' || SAYS_NO_TESTS.test(output)
    if (!hadTests(plan) && nothingElseFailed) {
      return { ...ending, outcome: 'skipped', summary: 'There are no tests to run.' }
    }
    return { ...ending, outcome: 'failed', summary: `${ending.summary} No test ran: restore or add tests.` }
  }
  if (executed !== null) {
    return { ...ending, summary: `${ending.summary} ${executed} ${executed === 1 ? 'test' : 'tests'} ran.` }
  }
  const isScript = plan.source === 'detected' && gate.name === NPM_TEST
  if (ending.outcome === 'passed' && isScript && (await rewritesTestScript(command))) {
    const summary =
      'The change rewrites how npm runs the tests, and the output shows none that ran: restore the script.'
    return { ...ending, outcome: 'failed', summary }
  }
  return ending
}

/** Whether the change touches what `npm test` runs: a test script of any package, or npm's own settings. */
async function rewritesTestScript(change: Change): Promise<boolean> {
  if (change.changedPaths.includes('.npmrc')) return true
  const isManifest = (path: string): boolean => path === 'package.json' || path.endsWith('/package.json')
  if (!change.changedPaths.some(isManifest)) return false
  for await (const { path, text } of await change.addedLines()) {
    if (isManifest(path) && /"(?:pre|post)?test"\s*:/.test(unescapeJson(text))) return true
  }
  return false
}

/** Undoes `\uXXXX`, by which a key can be spelled without its letters. */
const unescapeJson = (text: string): string =>
  text.replace(/\\u([0-9a-f]{4})/gi, (_all, code: string) => String.fromCharCode(Number.parseInt(code, 16)))
