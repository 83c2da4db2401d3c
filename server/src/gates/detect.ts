import { GATE_DEFAULTS, type Gate, type GatePlan } from '../domain/gate-plan.ts'
import { CONFLICT_GATE, isTestFile, SECRETS_GATE, TESTS_PRESENT_GATE } from './guards.ts'
import type { ReadFile } from './plan-file.ts'

/** Where setup commands put what has no usual place in the tree; never part of the commit. */
const INSTALLED = '.agentgate'
const FILE_CHARACTERS = 1_000_000

export interface Repository {
  readFile: ReadFile
  /** Paths of all files of the commit. */
  listFiles: () => Promise<readonly string[]>
}

interface Tooling {
  setup: string[]
  gates: Gate[]
}

interface Root {
  files: ReadonlySet<string>
  /** Text of a file at the root; empty when there is none or it is too large to be looked at. */
  read(path: string): Promise<string>
}

type Detected = Pick<GatePlan, 'source' | 'setup' | 'gates'>

/**
 * What the repository's own tooling at its root offers: npm scripts, pytest, go, cargo, else make.
 * The guards (secrets, conflict markers, tests present) are always there; alone they verify nothing, which
 * source `none` says.
 */
export async function detectGates(repository: Repository): Promise<Detected> {
  const files = new Set(await repository.listFiles())
  const root: Root = {
    files,
    async read(path) {
      const text = files.has(path) ? await repository.readFile(path) : undefined
      return text === undefined || text.length > FILE_CHARACTERS ? '' : text
    },
  }
  const found: Tooling[] = []
  for (const detect of [detectNpm, detectPytest, detectGo, detectCargo]) found.push(await detect(root))
  if (found.every((tooling) => tooling.gates.length === 0)) found.push(await detectMake(root))

  const guards = [SECRETS_GATE, CONFLICT_GATE]
  if ([...files].some(isTestFile)) guards.push(TESTS_PRESENT_GATE)
  const gates = found.flatMap((tooling) => tooling.gates)
  return {
    source: gates.length > 0 ? 'detected' : 'none',
    setup: found.flatMap((tooling) => tooling.setup),
    gates: [...guards, ...gates],
  }
}

const command = (name: string, run: string): Gate => ({
  name,
  level: 'L1',
  check: { type: 'command', run },
  ...GATE_DEFAULTS,
})

/** The gate that runs the package's tests through a script which the change may rewrite. */
export const NPM_TEST = 'npm test'

async function detectNpm(root: Root): Promise<Tooling> {
  const manifest = parseObject(await root.read('package.json'))
  const scripts = objectOf(manifest.scripts)
  const has = (name: string): boolean => typeof scripts[name] === 'string' && scripts[name] !== ''
  const gates: Gate[] = []
  if (has('test') && !/no test specified/i.test(String(scripts.test)))
    gates.push(command(NPM_TEST, 'npm test'))
  if (has('lint')) gates.push(command('lint', 'npm run lint'))
  const types = ['typecheck', 'type-check', 'check-types'].find(has)
  if (types !== undefined) gates.push(command('typecheck', `npm run ${types}`))
  // A build often wants more than a jail gives: it counts only where nothing else does.
  if (gates.length === 0 && has('build')) gates.push(command('build', 'npm run build'))
  return { gates, setup: gates.length > 0 ? npmSetup(root, manifest) : [] }
}

function npmSetup(root: Root, manifest: Record<string, unknown>): string[] {
  const kinds = ['dependencies', 'devDependencies', 'optionalDependencies']
  const needsInstall =
    kinds.some((kind) => Object.keys(objectOf(manifest[kind])).length > 0) ||
    manifest.workspaces !== undefined
  if (!needsInstall) return []
  const locked = root.files.has('package-lock.json') || root.files.has('npm-shrinkwrap.json')
  if (locked) return ['npm ci --no-audit --no-fund']
  return ['npm install --ignore-scripts --no-package-lock --no-audit --no-fund']
}

async function detectPytest(root: Root): Promise<Tooling> {
  const configured =
    root.files.has('pytest.ini') ||
    (await root.read('pyproject.toml')).includes('[tool.pytest') ||
    (await root.read('setup.cfg')).includes('[tool:pytest]') ||
    (await root.read('tox.ini')).includes('[pytest]')
  const tests = [...root.files].filter((path) => /(^|\/)(test_[^/]*|[^/]*_test)\.py$/.test(path))
  if (!configured && tests.length === 0) return { setup: [], gates: [] }
  if (!configured && (await areUnittests(root, tests))) return { setup: [], gates: [unittestGate(tests)] }

  const target = `${INSTALLED}/python`
  const python = `PYTHONPATH=.:src:${target} python3 -m pytest`
  const install = `python3 -m pip install --quiet --disable-pip-version-check --target ${target}`
  const wanted = ['requirements.txt', 'requirements-dev.txt', 'requirements-test.txt']
    .filter((path) => root.files.has(path))
    .map((path) => `-r ${path}`)
  const setup = wanted.length > 0 ? [`${install} ${wanted.join(' ')}`] : []
  return {
    setup: [...setup, `${python} --version >/dev/null 2>&1 || ${install} pytest`],
    gates: [command('pytest', `${python} -q`)],
  }
}

const LOOKED_AT = 20

/** Tests that need nothing but the standard library: all that are looked at import unittest, and none pytest. */
async function areUnittests(root: Root, tests: readonly string[]): Promise<boolean> {
  if (root.files.has('requirements.txt')) return false
  const texts = await Promise.all(tests.slice(0, LOOKED_AT).map((path) => root.read(path)))
  return texts.every((text) => /^\s*(import|from) unittest\b/m.test(text) && !/\bpytest\b/.test(text))
}

function unittestGate(tests: readonly string[]): Gate {
  const folders = [...new Set(tests.map((path) => path.slice(0, path.lastIndexOf('/') + 1) || '.'))].sort()
  const discover = (folder: string): string =>
    `PYTHONPATH=.:src python3 -m unittest discover -s '${folder.replaceAll("'", "'\\''")}' -p '*test*.py'`
  return command('unittest', folders.map(discover).join(' && '))
}

async function detectGo(root: Root): Promise<Tooling> {
  if (!root.files.has('go.mod')) return { setup: [], gates: [] }
  const cache = `GOMODCACHE="$PWD/${INSTALLED}/go" GOFLAGS=-modcacherw`
  const needsDownload =
    /^\s*require\b/m.test(await root.read('go.mod')) && !root.files.has('vendor/modules.txt')
  return {
    setup: needsDownload ? [`${cache} go mod download`] : [],
    gates: [command('go test', `${cache} go test ./...`)],
  }
}

async function detectCargo(root: Root): Promise<Tooling> {
  if (!root.files.has('Cargo.toml')) return { setup: [], gates: [] }
  const home = `CARGO_HOME="$PWD/${INSTALLED}/cargo"`
  const needsFetch = /^\[(workspace|.*dependencies)/m.test(await root.read('Cargo.toml'))
  return {
    setup: needsFetch ? [`${home} cargo fetch`] : [],
    gates: [command('cargo test', `${home} cargo test`)],
  }
}

async function detectMake(root: Root): Promise<Tooling> {
  const path = ['GNUmakefile', 'makefile', 'Makefile'].find((name) => root.files.has(name))
  const targets = path === undefined ? [] : makeTargets(await root.read(path))
  const target = ['test', 'check'].find((name) => targets.includes(name))
  return { setup: [], gates: target === undefined ? [] : [command(`make ${target}`, `make ${target}`)] }
}

const makeTargets = (makefile: string): string[] =>
  makefile.split('\n').flatMap((line) => {
    const rule = /^([A-Za-z0-9_. -]+):(?!=)/.exec(line)
    return rule?.[1]?.trim().split(/ +/) ?? []
  })

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}

/** A manifest that is no JSON object offers nothing: npm itself will say so to whoever needs it. */
function parseObject(text: string): Record<string, unknown> {
  try {
    return objectOf(JSON.parse(text))
  } catch (error) {
    if (error instanceof SyntaxError) return {}
    throw error
  }
}
