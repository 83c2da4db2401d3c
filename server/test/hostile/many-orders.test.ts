import { readdirSync, readFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { ANSWERED, type Arena, lackingJail, type Seen, type Steps, shell, startArena, use } from './arena.ts'

const SOAK = Number(process.env['AGENTGATE_SOAK'] || 15)
vi.setConfig({ testTimeout: 60_000 + SOAK * 8_000, hookTimeout: 60_000 })

const TEN = Array.from({ length: 10 }, (_, n) => n)

/** Writes what no other order writes, and looks for what another one could have written. */
const stepsOf = (n: number): Steps => [
  use('write_file', { path: 'answer.txt', content: `right ${n}\n` }),
  shell(`touch own-${n}; ls; cat answer.txt`),
]

describe.skipIf(lackingJail !== null)('many work orders', () => {
  let arena: Arena
  let repository: string
  beforeAll(async () => {
    arena = await startArena({ AGENTGATE_JAIL_SLOTS: '10' })
    repository = await arena.repository({ 'README.md': '# a project\n' })
  })
  afterAll(() => arena?.[Symbol.asyncDispose]())

  test('ten at once all end, each with its own tree and branch', async () => {
    const order = { gatePlan: ANSWERED }
    const ids = await Promise.all(TEN.map((n) => arena.submit({ repository, steps: stepsOf(n), order })))
    const seen: Seen[] = await Promise.all(ids.map((id) => arena.see(id)))
    for (const [n, one] of seen.entries()) {
      expect(one.run).toMatchObject({ state: 'completed', verification: 'passed', attempt: 1 })
      expect(await one.deliveredPaths()).toEqual(['README.md', 'answer.txt', `own-${n}`])
      expect(await one.delivered('answer.txt')).toBe(`right ${n}\n`)
      expect(one.outcomes[1]?.content).toContain(`README.md\nanswer.txt\nown-${n}\nright ${n}`)
    }
    expect(new Set(seen.map(({ run }) => run.delivery?.branch)).size).toBe(10)
    await arena.expectNoRemains()
  })

  test(`${SOAK} in a row leave nothing that grows`, async () => {
    const order = { gatePlan: ANSWERED }
    const runOne = async (n: number): Promise<Growth> => {
      const { run } = await arena.try({ repository, steps: stepsOf(n), order })
      expect(run).toMatchObject({ state: 'completed', verification: 'passed' })
      return measure(arena.root)
    }
    // The first ones open what stays open: connections, the mirror, the code.
    for (let n = 0; n < 5; n++) await runOne(n)
    const trend: Growth[] = []
    for (let n = 0; n < SOAK; n++) trend.push(await runOne(n))
    const [first, last] = [trend[0], trend.at(-1)]
    const shown = trend.filter((_, n) => n % Math.ceil(SOAK / 10) === 0 || n === SOAK - 1)
    process.stderr.write(
      `MB in use over ${SOAK} orders: ${shown.map(({ megabytes }) => megabytes.toFixed(1)).join(' ')}\n`,
    )
    if (first === undefined || last === undefined) throw new Error('no order was run')
    // The log that this process keeps of the gateway, and what the host and the model have heard, are in it too; what
    // the gateway alone keeps is measured by `npm run bench -- soak`.
    expect(last.megabytes - first.megabytes).toBeLessThan(1 + SOAK * 0.25)
    // A socket or two come and go with whoever asks at the moment.
    expect(last.files - first.files).toBeLessThanOrEqual(3)
    expect(last.children - first.children).toBeLessThanOrEqual(0)
    expect(last.folders).toEqual(first.folders)
  })
})

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

interface Growth {
  files: number
  children: number
  folders: string[]
  /** In use: the heap and the buffers behind it, without garbage. */
  megabytes: number
}

/** What this process, which holds gateway and neighbours, has open; and what stands in the work folder. */
async function measure(root: string): Promise<Growth> {
  const children = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && parentOf(pid) === process.pid)
  const within = async (folder: string): Promise<string[]> =>
    (await readdir(join(root, folder)).catch(() => [])).map((name) => `${folder}/${name}`)
  const folders = (
    await Promise.all(['git/runs', 'git/mirrors', 'git/test-remotes', 'scratch', '.'].map(within))
  ).flat()
  collectGarbage()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return {
    files: readdirSync('/proc/self/fd').length,
    children: children.length,
    folders,
    megabytes: (heapUsed + arrayBuffers) / 2 ** 20,
  }
}

function parentOf(pid: string): number | null {
  try {
    return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
  } catch {
    return null
  }
}
