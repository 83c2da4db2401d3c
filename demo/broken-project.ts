import type { Repair } from './repair-script.ts'

/** A small project whose tests fail because of one bug. */
export interface BrokenProject {
  name: string
  files: Readonly<Record<string, string>>
  /** `wrong` and `alsoWrong` leave the tests failing. */
  repair: Repair & { alsoWrong: string }
}

interface Bug {
  file: string
  source: (expression: string) => string
  bug: string
  wrong: string
  alsoWrong: string
  right: string
  /** Lines of the test, with what they import. */
  imports: string
  cases: readonly string[]
}

type Chance = () => number

const pick = <T>(random: Chance, first: T, ...others: T[]): T =>
  others[Math.floor(random() * (others.length + 1)) - 1] ?? first

const between = (random: Chance, low: number, high: number): number =>
  low + Math.floor(random() * (high - low + 1))

/** An order at the limit itself does not get what it was promised. */
function freeAtLimit(random: Chance): Bug {
  const subject = pick(random, 'basket', 'order', 'invoice')
  const verb = pick(random, 'shipsFree', 'getsGift', 'earnsPoints')
  const limit = between(random, 20, 200)
  return {
    file: `src/${subject}.js`,
    source: (condition) =>
      `export const LIMIT = ${limit}\n\n/** From the limit on. */\nexport function ${verb}(${subject}) {\n  return ${condition}\n}\n`,
    bug: `${subject}.total > LIMIT`,
    wrong: `${subject}.total < LIMIT`,
    alsoWrong: `${subject}.total === LIMIT`,
    right: `${subject}.total >= LIMIT`,
    imports: verb,
    cases: [
      `assert.equal(${verb}({ total: ${limit - 1} }), false)`,
      `assert.equal(${verb}({ total: ${limit} }), true)`,
      `assert.equal(${verb}({ total: ${limit + 7} }), true)`,
    ],
  }
}

/** The last page, when it is not full, is forgotten. */
function lastPage(random: Chance): Bug {
  const unit = pick(random, 'page', 'shelf', 'crate')
  const count = `${unit}Count`
  const size = between(random, 4, 30)
  return {
    file: `src/${unit}.js`,
    source: (expression) =>
      `const PER_${unit.toUpperCase()} = ${size}\n\nexport function ${count}(items) {\n  return ${expression}\n}\n`,
    bug: `Math.floor(items / PER_${unit.toUpperCase()})`,
    wrong: `Math.floor(items / PER_${unit.toUpperCase()}) + 1`,
    alsoWrong: `Math.round(items / PER_${unit.toUpperCase()})`,
    right: `Math.ceil(items / PER_${unit.toUpperCase()})`,
    imports: count,
    cases: [
      `assert.equal(${count}(0), 0)`,
      `assert.equal(${count}(1), 1)`,
      `assert.equal(${count}(${size * 3}), 3)`,
      `assert.equal(${count}(${size * 3 + 1}), 4)`,
    ],
  }
}

/** The first value is left out of the sum. */
function firstValue(random: Chance): Bug {
  const measure = pick(random, 'rainfall', 'salary', 'distance')
  const name = pick(random, 'mean', 'average')
  const [low, high] = [between(random, 2, 9) * 2, between(random, 10, 50) * 2]
  return {
    file: `src/${measure}.js`,
    source: (head) =>
      `export function ${name}(values) {\n  let sum = 0\n  for (${head}; at++) sum += values[at]\n  return sum / values.length\n}\n`,
    bug: 'let at = 1; at < values.length',
    wrong: 'let at = 0; at <= values.length',
    alsoWrong: 'let at = 0; at < values.length - 1',
    right: 'let at = 0; at < values.length',
    imports: name,
    cases: [
      `assert.equal(${name}([${low}]), ${low})`,
      `assert.equal(${name}([${low}, ${high}]), ${(low + high) / 2})`,
    ],
  }
}

/** A conversion multiplies before it subtracts. */
function conversion(random: Chance): Bug {
  const scale = pick(random, 'sensor', 'gauge', 'probe')
  const [offset, factor, value] = [between(random, 2, 40), between(random, 2, 9), between(random, 50, 90)]
  return {
    file: `src/${scale}.js`,
    source: (expression) =>
      `const OFFSET = ${offset}\nconst FACTOR = ${factor}\n\n/** What the ${scale} shows, in units. */\nexport const toUnits = (shown) => ${expression}\n`,
    bug: 'shown - OFFSET * FACTOR',
    wrong: '(shown + OFFSET) * FACTOR',
    alsoWrong: 'shown * FACTOR',
    right: '(shown - OFFSET) * FACTOR',
    imports: 'toUnits',
    cases: [
      `assert.equal(toUnits(${offset}), 0)`,
      `assert.equal(toUnits(${value}), ${(value - offset) * factor})`,
    ],
  }
}

/** The wrong letter of each word. */
function initials(random: Chance): Bug {
  const [first, last] = [
    pick(random, 'Ada', 'Grace', 'Edsger'),
    pick(random, 'Lovelace', 'Hopper', 'Dijkstra'),
  ]
  const name = pick(random, 'initials', 'monogram')
  return {
    file: `src/${name}.js`,
    source: (letter) =>
      `export function ${name}(name) {\n  return name\n    .split(' ')\n    .map((word) => ${letter})\n    .join('')\n}\n`,
    bug: 'word[1]',
    wrong: 'word[word.length - 1]',
    alsoWrong: 'word[0].toLowerCase()',
    right: 'word[0]',
    imports: name,
    cases: [`assert.equal(${name}('${first} ${last}'), '${first.charAt(0)}${last.charAt(0)}')`],
  }
}

export const BUGS = [freeAtLimit, lastPage, firstValue, conversion, initials] as const

const TEST = 'npm test'

/** A project with a bug of the given kind, or of any; names and numbers are random. */
export function brokenProject(random: Chance, makeBug = pick(random, ...BUGS)): BrokenProject {
  const bug = makeBug(random)
  const name = `${pick(random, 'tea', 'book', 'bike', 'plant')}-${pick(random, 'shop', 'club', 'works')}`
  const { file, right, wrong, alsoWrong, imports, cases } = bug
  const testFile = file.replace('src/', 'test/').replace('.js', '.test.js')
  const test = [
    "import assert from 'node:assert/strict'",
    "import { test } from 'node:test'",
    `import { ${imports} } from '../${file}'`,
    '',
    ...cases.map((line, at) => `test('${imports}, case ${at + 1}', () => {\n  ${line}\n})\n`),
  ]
  return {
    name,
    files: {
      'package.json': `${JSON.stringify({ name, private: true, type: 'module', scripts: { test: 'node --test' } }, null, 2)}\n`,
      'README.md': `# ${name}\n\nRun the tests with \`${TEST}\`.\n`,
      [file]: bug.source(bug.bug),
      [testFile]: test.join('\n'),
    },
    repair: { file, bug: bug.bug, wrong, alsoWrong, right, test: TEST },
  }
}
