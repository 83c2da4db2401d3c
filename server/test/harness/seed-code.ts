import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { compileFunction } from 'node:vm'
import { transformSync } from 'esbuild'

/**
 * The code printed in the seed documents, taken from the text as it stands. Nothing is rewritten: what a block
 * uses but does not define (the reader's own application) is handed in as parameters of a function around it.
 */

/** Blocks of the integration guide: the heading above, the line before the code, the line after it. */
const TYPESCRIPT_BLOCKS = {
  'Basic Integration': ['Basic Integration', 'Implementation', 'When to Use'],
  'Webhook-Driven': ['Webhook-Driven Integration', 'Implementation', 'When to Use'],
  'Queue-Based': ['Queue-Based Integration', 'Implementation', 'When to Use'],
  'Multi-Tenant': ['Multi-Tenant Integration', 'Implementation', 'Error Handling Patterns'],
  'Retry with Backoff': ['Error Handling Patterns', 'Retry with Backoff', 'Graceful Degradation'],
  'Graceful Degradation': ['Error Handling Patterns', 'Graceful Degradation', 'Choosing a Pattern'],
} as const

/** Blocks of the Python guide, likewise. */
const PYTHON_BLOCKS = {
  'Basic Usage': ['Installation', 'Basic Usage', 'Error Handling'],
  'Error Handling': ['Basic Usage', 'Error Handling', 'Webhook Signature Verification'],
  'Webhook Signature Verification': ['Error Handling', 'Webhook Signature Verification', 'Coming Soon'],
} as const

export type TypeScriptBlock = keyof typeof TYPESCRIPT_BLOCKS
export type PythonBlock = keyof typeof PYTHON_BLOCKS
export const TYPESCRIPT_BLOCK_NAMES = Object.keys(TYPESCRIPT_BLOCKS) as TypeScriptBlock[] // keys of a literal
export const PYTHON_BLOCK_NAMES = Object.keys(PYTHON_BLOCKS) as PythonBlock[] // keys of a literal

const TYPESCRIPT_SEED = '000_290b0fd08671b3e8.txt'
const PYTHON_SEED = '001_1c4da0e5f067e2e1.txt'

/** Where the documents are: beside the checkout, or where AGENTGATE_SEEDS says. */
const seedsFolder = (): string =>
  process.env.AGENTGATE_SEEDS || resolve(fileURLToPath(import.meta.url), '../../../../../shared/seeds')

/** Why the printed code cannot run here, if it cannot. */
export const absentSeeds = (): string | null =>
  readSeed(TYPESCRIPT_SEED) === undefined ? `the printed code is not in ${seedsFolder()}` : null

/** The printed TypeScript of a block; undefined where the documents are absent. */
export function typescriptBlock(name: TypeScriptBlock): string | undefined {
  const text = readSeed(TYPESCRIPT_SEED)
  return text === undefined ? undefined : between(text, TYPESCRIPT_BLOCKS[name])
}

/** The printed Python of a block; undefined where the documents are absent. */
export function pythonBlock(name: PythonBlock): string | undefined {
  const text = readSeed(PYTHON_SEED)
  return text === undefined ? undefined : between(text, PYTHON_BLOCKS[name])
}

export type SeedFunction = (...args: unknown[]) => Promise<unknown>

/**
 * Runs a block with these names in its scope and gives the functions it declares, by name: `runTask`,
 * `submitWithRetry`, `runTaskWithFallback`. Blocks that declare none register handlers with the supplied `app`
 * and `queue`. Undefined where the documents are absent.
 */
export function loadSeedBlock(
  name: TypeScriptBlock,
  supplied: Record<string, unknown>,
): Record<string, SeedFunction> | undefined {
  const code = typescriptBlock(name)
  if (code === undefined) return undefined
  const declared = [...code.matchAll(/^(?:async )?function (\w+)/gm)].map((match) => match[1])
  const { code: javascript } = transformSync(code, { loader: 'ts', target: 'es2022' })
  const wrapped = compileFunction(`${javascript}\nreturn { ${declared.join(', ')} }`, Object.keys(supplied))
  return Reflect.apply(wrapped, undefined, Object.values(supplied))
}

/** What a Python block needs around it to run as a program of its own. */
const PYTHON_ENDINGS: Record<PythonBlock, string> = {
  'Basic Usage': '',
  'Error Handling': `
import json, sys
print(json.dumps(create_work_order(sys.argv[1], sys.argv[2])))
`,
  'Webhook Signature Verification': `
from werkzeug.serving import make_server
server = make_server('127.0.0.1', 0, app)
print(f"Listening: {server.server_port}", flush=True)
server.serve_forever()
`,
}

/**
 * A Python program around a block. Its environment must hold AGENTGATE_API_KEY and AGENTGATE_BASE_URL, for the
 * webhook handler WEBHOOK_SECRET as well.
 *
 * - The later blocks use names of the first one (`headers`, `BASE_URL`, `os`), so its lines before the first
 *   request stand above them.
 * - The printed address is replaced by one more line after it, which sets `BASE_URL` again from the environment.
 * - `Error Handling` calls `create_work_order(argv[1], argv[2])` and prints the answer as JSON.
 * - The webhook handler is served on a free port, which is printed as `Listening: PORT`.
 */
export function pythonProgram(name: PythonBlock): string | undefined {
  const first = pythonBlock('Basic Usage')
  const block = pythonBlock(name)
  if (first === undefined || block === undefined) return undefined
  const printed = name === 'Basic Usage' ? block : `${cutBefore(first, '# Create work order')}\n${block}`
  return (
    insertAfter(printed, /^BASE_URL = .*$/m, "BASE_URL = os.environ['AGENTGATE_BASE_URL']") +
    PYTHON_ENDINGS[name]
  )
}

function readSeed(file: string): string | undefined {
  try {
    return readFileSync(resolve(seedsFolder(), file), 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}

/** The lines after the line `start`, itself after the line `heading`, up to the line `end`. */
function between(text: string, [heading, start, end]: readonly [string, string, string]): string {
  const lines = text.split('\n')
  const find = (line: string, from: number): number => {
    const index = lines.findIndex((candidate, at) => at >= from && candidate.trim() === line)
    if (index < 0) throw new Error(`the seed has no line ${JSON.stringify(line)} after line ${from}`)
    return index
  }
  const first = find(start, find(heading, 0) + 1) + 1
  return `${lines.slice(first, find(end, first)).join('\n').trim()}\n`
}

function cutBefore(text: string, mark: string): string {
  const index = text.indexOf(mark)
  if (index < 0) throw new Error(`the seed's code has no ${JSON.stringify(mark)}`)
  return text.slice(0, index)
}

function insertAfter(text: string, line: RegExp, added: string): string {
  if (!line.test(text)) throw new Error(`the seed's code has no line like ${line.source}`)
  return text.replace(line, (match) => `${match}\n${added}`)
}
