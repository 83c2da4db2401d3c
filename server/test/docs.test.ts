import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { KEY_NAMES } from '../src/cli/first-keys.ts'
import { VARIABLES } from '../src/config-variables.ts'
import { STATUS_REASONS } from '../src/domain/lifecycle.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

interface Page {
  path: string
  text: string
}

const namesOf = (folder: string, recursive = false): string[] =>
  readdirSync(join(ROOT, folder), { recursive, encoding: 'utf8' }).map((name) => join(folder, name))

const pages: Page[] = [...namesOf('.'), ...namesOf('docs', true), 'sdk/typescript/README.md']
  .filter((path) => path.endsWith('.md'))
  .map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') }))

const page = (path: string): Page => {
  const found = pages.find((each) => each.path === path)
  if (found === undefined) throw new Error(`${path} is missing`)
  return found
}

/** Fenced blocks of a page in one language. */
const blocksOf = ({ text }: Page, language: string): string[] =>
  [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].flatMap(([, name, block]) =>
    name === language && block !== undefined ? [block] : [],
  )

const withoutBlocks = (text: string): string => text.replaceAll(/^```[\s\S]*?^```$/gm, '')

/** What a pattern's first group finds on all pages, with the page it stands on. */
const mentions = (pattern: RegExp): { path: string; name: string }[] =>
  pages.flatMap(({ path, text }) => [...text.matchAll(pattern)].map(([, name = '']) => ({ path, name })))

/** The anchor that a heading gets: lower case, without signs, spaces as dashes. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')

const anchorsOf = (path: string): string[] =>
  [...withoutBlocks(readFileSync(join(ROOT, path), 'utf8')).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    anchorOf(heading),
  )

function brokenLinks({ path, text }: Page): string[] {
  const links = [...withoutBlocks(text).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target)
  return links
    .filter((target) => !/^[a-z]+:/.test(target))
    .filter((target) => {
      const [file = '', anchor] = target.split('#')
      const place = file === '' ? path : relative(ROOT, join(ROOT, dirname(path), file))
      if (!existsSync(join(ROOT, place))) return true
      return anchor !== undefined && !anchorsOf(place).includes(anchor)
    })
}

describe('the documents', () => {
  test('the README is read in one go', () => {
    expect(page('README.md').text.trimEnd().split('\n').length).toBeLessThanOrEqual(120)
  })

  test('every relative link leads somewhere, to the heading it names', () => {
    const broken = pages.flatMap((each) => brokenLinks(each).map((target) => `${each.path}: ${target}`))
    expect(broken).toEqual([])
  })

  test('every npm script they name exists', () => {
    const { scripts }: { scripts: Record<string, string> } = JSON.parse(
      readFileSync(join(ROOT, 'package.json'), 'utf8'),
    )
    const named = mentions(/\bnpm (?:run )?(start|test|(?<=run )[\w:-]+)\b/g)
    expect(named.length).toBeGreaterThan(5)
    expect(named.filter(({ name }) => !Object.hasOwn(scripts, name))).toEqual([])
  })

  test('every setting they name exists', () => {
    const known = new Set<string>([
      ...VARIABLES.map(({ name }) => name),
      ...Object.values(KEY_NAMES),
      // Of the SDK and of the tests.
      'AGENTGATE_BASE_URL',
      'AGENTGATE_TEST_DATABASE_URL',
      'AGENTGATE_TEST_LOG',
      'AGENTGATE_TEST_MODEL_STEPS',
      'AGENTGATE_TEST_QUEUED',
      'AGENTGATE_TEST_RESERVATIONS',
      'AGENTGATE_TEST_SEED',
    ])
    expect(mentions(/\b(AGENTGATE_[A-Z_]+[A-Z])\b/g).filter(({ name }) => !known.has(name))).toEqual([])
  })

  test('every command they name exists', () => {
    const program = namesOf('server/src/cli/commands')
      .map((path) => readFileSync(join(ROOT, path), 'utf8'))
      .join('\n')
    const named = mentions(/\.\/agentgate ([a-z]+)\b/g).filter(({ name }) => !LATER_COMMANDS.includes(name))
    expect(named.length).toBeGreaterThan(5)
    expect(named.filter(({ name }) => !program.includes(`.command('${name}`))).toEqual([])
    expect(pages.filter(({ text }) => text.includes('npx agentgate')).map(({ path }) => path)).toEqual([])
  })

  test('every JSON example is JSON', () => {
    const examples = pages.flatMap((each) => blocksOf(each, 'json'))
    expect(examples.length).toBeGreaterThan(5)
    for (const example of examples) expect(() => JSON.parse(example), example).not.toThrow()
  })

  test('every status reason is explained once, with what to do', () => {
    const rows = page('docs/guides/work-orders.md').text.matchAll(/^\| `(\w+)` \| (.+) \| (.+) \|$/gm)
    const explained = [...rows].map(([, reason = '']) => reason)
    const reasons: readonly string[] = STATUS_REASONS
    expect(explained.filter((reason) => reasons.includes(reason)).sort()).toEqual([...reasons].sort())
  })
})

/** Named where the documents say what is not there yet. */
const LATER_COMMANDS = ['export', 'import']
