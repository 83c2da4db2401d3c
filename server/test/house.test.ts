import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { configMarkdown, exampleEnvironment } from '../src/config.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const SOURCE = join(ROOT, 'server/src')

/** The floors of the house: imports go down, never up, never sideways. Files beside the rooms are the wiring. */
const FLOORS: Record<string, number> = {
  lib: 0,
  domain: 1,
  contract: 2,
  storage: 2,
  outbound: 3,
  jail: 3,
  vault: 3,
  engine: 4,
  hub: 4,
  agents: 5,
  tools: 5,
  workspaces: 5,
  gates: 5,
  webhooks: 5,
  conduct: 6,
  http: 7,
  cli: 7,
}

interface Source {
  path: string
  room: string
  text: string
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && /\.(ts|mjs|sql)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !path.includes(`${sep}node_modules${sep}`) && !path.includes(`${sep}dist${sep}`))
}

const sources: Source[] = filesBelow(SOURCE).map((path) => {
  const place = relative(SOURCE, path)
  const room = place.includes(sep) ? (place.split(sep)[0] ?? '') : ''
  return { path: place, room, text: readFileSync(path, 'utf8') }
})
const production = sources.filter(({ path }) => !/\.test\.ts$|[-.]fixture\.ts$|-conformance\.ts$/.test(path))

const importsOf = ({ path, text }: Source): string[] =>
  [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)].map((match) =>
    relative(SOURCE, resolve(SOURCE, dirname(path), match[1] ?? '')),
  )

/** The text without comments, so that sentences about a rule do not break it. */
const codeOf = ({ text }: Source): string =>
  text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/(^|\s)(\/\/|--).*$/gm, '')

describe('the house', () => {
  test('every room has a floor', () => {
    expect(new Set(sources.map(({ room }) => room).filter((room) => room !== ''))).toEqual(
      new Set(Object.keys(FLOORS)),
    )
  })

  test('imports go down, never up, never sideways', () => {
    const wrong = production.flatMap((source) =>
      importsOf(source).flatMap((target) => {
        const to = target.includes(sep) ? (target.split(sep)[0] ?? '') : ''
        if (target.startsWith('..'))
          return source.room === 'cli' ? [] : [`${source.path} leaves the server: ${target}`]
        if (source.room === '' || to === source.room) return []
        if (source.room === 'cli' && to === '') return []
        return (FLOORS[to] ?? 99) < (FLOORS[source.room] ?? -1) ? [] : [`${source.path} imports ${target}`]
      }),
    )
    expect(wrong).toEqual([])
  })

  test('only config.ts reads the environment', () => {
    const readers = production
      .filter((source) => codeOf(source).includes('process.env'))
      .map(({ path }) => path)
    expect(readers).toEqual(['config.ts'])
  })

  test('only the write path writes what belongs to runs; a purge and an import replace it whole', () => {
    const table = '(?:(?:run|run_body|run_outcome|run_event|step|work_order|lane)\\b(?!\\s*\\.)|\\$\\{)'
    const writes = new RegExp(`\\b(?:insert\\s+into|update|delete\\s+from)\\s+${table}`, 'i')
    const writers = production.filter((source) => source.path.endsWith('.ts') && writes.test(codeOf(source)))
    const allowed = ['commit-statement.ts', 'import.ts', 'purge.ts'].map((name) => join('storage', name))
    expect(writers.map(({ path }) => path).filter((path) => !allowed.includes(path))).toEqual([])
    expect(writers.map(({ path }) => path)).toContain(allowed[0])
  })

  test('no SQL says now(): time is an effect', () => {
    const sayers = production.filter((source) =>
      /\b(?:now\(\)|current_timestamp|localtimestamp)/i.test(sqlOf(source)),
    )
    expect(sayers.map(({ path }) => path)).toEqual([])
  })

  test('SQL is written in storage and nowhere else', () => {
    const speakers = production.filter(
      (source) =>
        source.room !== 'storage' &&
        /[`']\s*(?:select\s+[\w*(]|insert\s+into|delete\s+from)\s/i.test(codeOf(source)),
    )
    expect(speakers.map(({ path }) => path)).toEqual([])
  })

  test('no source file is longer than 500 lines', () => {
    const everything = ['server', 'sdk', 'demo', 'scripts', 'bench', 'examples'].flatMap((folder) =>
      filesBelow(join(ROOT, folder)),
    )
    const long = everything.filter((path) => readFileSync(path, 'utf8').split('\n').length > 500)
    expect(long.map((path) => relative(ROOT, path))).toEqual([])
  })

  test('the domain knows neither clock nor chance nor the outside', () => {
    const outside =
      /Date\.now\(|new Date\(\)|Math\.random|performance\.|setTimeout|from 'node:(?!crypto)|\bfetch\(|randomBytes|randomUUID/
    const guilty = production.filter((source) => source.room === 'domain' && outside.test(codeOf(source)))
    expect(guilty.map(({ path }) => path)).toEqual([])
  })

  test('imports make no circle', () => {
    const graph = new Map(production.map((source) => [source.path, importsOf(source)]))
    const done = new Set<string>()
    const circles: string[] = []
    const walk = (path: string, trail: readonly string[]): void => {
      if (trail.includes(path)) circles.push([...trail.slice(trail.indexOf(path)), path].join(' -> '))
      if (trail.includes(path) || done.has(path)) return
      for (const target of graph.get(path) ?? []) walk(target, [...trail, path])
      done.add(path)
    }
    for (const path of graph.keys()) walk(path, [])
    expect(circles).toEqual([])
  })

  test('the pages about settings are current', () => {
    expect(readFileSync(join(ROOT, 'docs/config.md'), 'utf8')).toBe(configMarkdown())
    expect(readFileSync(join(ROOT, 'example.env'), 'utf8')).toBe(exampleEnvironment())
  })
})

/** What stands in SQL files and in template texts of TypeScript. */
function sqlOf(source: Source): string {
  if (source.path.endsWith('.sql')) return codeOf(source)
  return [...codeOf(source).matchAll(/`[^`]*`|'[^'\n]*'/g)]
    .map(([text]) => text)
    .filter((text) => /\b(select|insert|update|delete)\b/i.test(text))
    .join('\n')
}
