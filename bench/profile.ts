/** Where the time of profiled gateways went: self time by source file, as the built program names its parts. */
import { readdir, readFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

/** What V8 writes (`--cpu-prof`); times in microseconds, lines from 0. */
interface CpuProfile {
  nodes: { id: number; callFrame: Frame }[]
  samples: number[]
  timeDeltas: number[]
}

interface Frame {
  functionName: string
  url: string
  lineNumber: number
}

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const SHOWN = 30

export async function printProfiles(folder: string): Promise<void> {
  for (const name of (await readdir(folder)).filter((each) => each.endsWith('.cpuprofile'))) {
    const profile: CpuProfile = JSON.parse(await readFile(join(folder, name), 'utf8'))
    const { byFile, byFunction, busyMs } = await sumSelfTimes(profile)
    if (busyMs === 0) continue
    process.stdout.write(`\n${name}: ${Math.round(busyMs)} ms busy\n`)
    printLargest(byFile, busyMs)
    process.stdout.write('  by function\n')
    printLargest(byFunction, busyMs)
  }
}

interface SelfTimes {
  byFile: Map<string, number>
  byFunction: Map<string, number>
  /** All but waiting. */
  busyMs: number
}

async function sumSelfTimes({ nodes, samples, timeDeltas }: CpuProfile): Promise<SelfTimes> {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]))
  const built = new Map<string, Part[]>()
  const sums: SelfTimes = { byFile: new Map(), byFunction: new Map(), busyMs: 0 }
  for (const [i, id] of samples.entries()) {
    const frame = frames.get(id)
    if (frame === undefined || ['(idle)', '(root)'].includes(frame.functionName)) continue
    const parts = built.get(frame.url) ?? (await readParts(frame.url))
    built.set(frame.url, parts)
    const file = fileOf(frame, parts)
    const ms = (timeDeltas[i] ?? 0) / 1000
    const add = (to: Map<string, number>, key: string): unknown => to.set(key, (to.get(key) ?? 0) + ms)
    add(sums.byFile, file)
    add(sums.byFunction, `${frame.functionName || '(anonymous)'}  ${file}`)
    sums.busyMs += ms
  }
  return sums
}

/** A source file within a built one, from this line (from 0) to where the next part begins. */
interface Part {
  line: number
  source: string
}

const PART = /^\/\/ ((?:\.\.\/)*[\w@][^ ]*\.[cm]?[jt]s)$/

async function readParts(url: string): Promise<Part[]> {
  if (!url.startsWith('file:')) return []
  const lines = (await readFile(fileURLToPath(url), 'utf8')).split('\n')
  return lines.flatMap((text, line) => {
    const source = PART.exec(text)?.[1]
    return source === undefined ? [] : [{ line, source }]
  })
}

/** The source's path below the repository; packages by their name; what has no file is the runtime's own. */
function fileOf({ url, functionName, lineNumber }: Frame, parts: readonly Part[]): string {
  if (url === '') return functionName
  const file = url.startsWith('file:') ? relative(ROOT, fileURLToPath(url)) : url
  const source = parts.findLast(({ line }) => line <= lineNumber)?.source ?? file
  const [, name] = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(source) ?? []
  return name ?? source
}

function printLargest(times: ReadonlyMap<string, number>, busyMs: number): void {
  const largest = [...times].sort(([, a], [, b]) => b - a).slice(0, SHOWN)
  for (const [name, ms] of largest) {
    process.stdout.write(`  ${((100 * ms) / busyMs).toFixed(1).padStart(5)} %  ${name}\n`)
  }
}
