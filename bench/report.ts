/** Results as JSON, one file per measurement, and the page for readers that is made of them. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Machine } from './machine.ts'
import type { Outcome, Row, Table } from './suite.ts'

export interface Result extends Outcome {
  name: string
  machine: Machine
  at: string
  seconds: number
  scale: number
}

const BENCH = fileURLToPath(new URL('.', import.meta.url))
const RESULTS = join(BENCH, 'results')

/** In the order in which they are read; others follow. */
const ORDER = ['three-steps', 'floor', 'history', 'waiting', 'processes', 'memory', 'orders', 'soak']

export async function keepResult(result: Result): Promise<void> {
  await mkdir(RESULTS, { recursive: true })
  await writeFile(join(RESULTS, `${result.name}.json`), `${JSON.stringify(result, null, 2)}\n`)
  await writeFile(join(RESULTS, 'README.md'), await renderPage())
}

async function renderPage(): Promise<string> {
  const names = (await readdir(RESULTS)).filter((name) => name.endsWith('.json'))
  const results: Result[] = await Promise.all(
    names.map(async (name) => JSON.parse(await readFile(join(RESULTS, name), 'utf8'))),
  )
  results.sort((a, b) => ORDER.indexOf(a.name) - ORDER.indexOf(b.name))
  const sections = await Promise.all(results.map(renderResult))
  const head =
    'Made by `npm run bench`; the raw results are beside this page. `npm run bench -- --help` tells what can be measured.'
  return `# Measured\n\n${head}\n\n${sections.join('\n')}`
}

async function renderResult(result: Result): Promise<string> {
  const { name, machine, at, seconds, scale, conditions, tables, findings } = result
  const limits = Object.entries(conditions).map(([key, value]) => `\`${key}\` ${value}`)
  return [
    `## ${name}\n`,
    `${await methodOf(name)}\n`,
    `${machine.line}; ${at}; ${seconds} s per measurement, scale ${scale}.\n`,
    `Conditions: ${limits.join(', ')}.\n`,
    ...tables.map((table) => `${renderTable(table)}\n`),
    ...findings.map((finding) => `- ${finding}`),
    '',
  ].join('\n')
}

/** The comment that a measurement's source begins with is its method. */
async function methodOf(name: string): Promise<string> {
  const source = await readFile(join(BENCH, `${name}.ts`), 'utf8')
  const [, comment = ''] = /^\/\*\*([\s\S]*?)\*\//.exec(source) ?? []
  return comment
    .split('\n')
    .map((line) => line.replace(/^\s*\* ?/, ''))
    .join('\n')
    .trim()
}

function renderTable({ title, rows }: Table): string {
  const keys = columnsOf(rows)
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [
    `**${title}**\n`,
    line(keys.map(headingOf)),
    line(keys.map((key) => (rows.some((row) => typeof row[key] === 'number') ? '--:' : '---'))),
    ...rows.map((row) => line(keys.map((key) => cellOf(row[key])))),
  ].join('\n')
}

const columnsOf = (rows: readonly Row[]): string[] => [...new Set(rows.flatMap((row) => Object.keys(row)))]

/** `walBytesPerRun` is read as `wal bytes per run`. */
const headingOf = (key: string): string =>
  key.replace(/([a-z0-9])([A-Z])/g, '$1 $2').replace(/ [A-Z]/g, (letter) => letter.toLowerCase())

const cellOf = (value: string | number | undefined): string =>
  typeof value === 'number' ? value.toLocaleString('en-GB') : (value ?? '')

export function printOutcome(name: string, { tables, findings }: Outcome): void {
  for (const { title, rows } of tables) {
    process.stdout.write(`\n${name}: ${title}\n`)
    const keys = columnsOf(rows)
    const cells = [keys.map(headingOf), ...rows.map((row) => keys.map((key) => cellOf(row[key])))]
    const widths = keys.map((_, i) => Math.max(...cells.map((row) => row[i]?.length ?? 0)))
    for (const row of cells) {
      process.stdout.write(`  ${row.map((cell, i) => cell.padStart(widths[i] ?? 0)).join('  ')}\n`)
    }
  }
  process.stdout.write(`\n${findings.map((finding) => `- ${finding}\n`).join('')}`)
}
