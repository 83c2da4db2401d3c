/** Where the time of profiled gateways went: self time by source file, with the program's source maps. */
import { readdir, readFile } from 'node:fs/promises'
import { SourceMap, type SourceMapPayload } from 'node:module'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

/** What V8 writes (`--cpu-prof`); times in microseconds, lines from 0. */
interface CpuProfile {
  nodes: {
    id: number
    callFrame: { functionName: string; url: string; lineNumber: number; columnNumber: number }
  }[]
  samples: number[]
  timeDeltas: number[]
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
  const maps = new Map<string, SourceMap | undefined>()
  const sums: SelfTimes = { byFile: new Map(), byFunction: new Map(), busyMs: 0 }
  for (const [i, id] of samples.entries()) {
    const frame = frames.get(id)
    if (frame === undefined || ['(idle)', '(root)'].includes(frame.functionName)) continue
    if (!maps.has(frame.url)) maps.set(frame.url, await readMap(frame.url))
    const file = fileOf(frame, maps.get(frame.url))
    const ms = (timeDeltas[i] ?? 0) / 1000
    const add = (to: Map<string, number>, key: string): unknown => to.set(key, (to.get(key) ?? 0) + ms)
    add(sums.byFile, file)
    add(sums.byFunction, `${frame.functionName || '(anonymous)'}  ${file}`)
    sums.busyMs += ms
  }
  return sums
}

async function readMap(url: string): Promise<SourceMap | undefined> {
  if (!url.startsWith('file:')) return undefined
  try {
    const payload: SourceMapPayload = JSON.parse(await readFile(`${fileURLToPath(url)}.map`, 'utf8'))
    return new SourceMap(payload)
  } catch {
    return undefined
  }
}

/** The source's path below the repository; packages by their name; what has no file is the runtime's own. */
function fileOf(frame: CpuProfile['nodes'][number]['callFrame'], map: SourceMap | undefined): string {
  const { url, functionName, lineNumber, columnNumber } = frame
  if (url === '') return functionName
  const [, name] = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url) ?? []
  if (name !== undefined) return name
  const entry = map?.findEntry(lineNumber, columnNumber)
  if (entry && 'originalSource' in entry) return entry.originalSource.replace(/^(\.\.\/)+/, '')
  return url.startsWith('file:') ? relative(ROOT, fileURLToPath(url)) : url
}

function printLargest(times: ReadonlyMap<string, number>, busyMs: number): void {
  const largest = [...times].sort(([, a], [, b]) => b - a).slice(0, SHOWN)
  for (const [name, ms] of largest) {
    process.stdout.write(`  ${((100 * ms) / busyMs).toFixed(1).padStart(5)} %  ${name}\n`)
  }
}
