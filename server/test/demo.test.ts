import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, onTestFinished, test } from 'vitest'
import { BUGS, brokenProject } from '../../demo/broken-project.ts'
import type { RunEvent } from '../../sdk/typescript/src/index.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** No setting of whoever runs the tests, such as a provider's key. */
const ENVIRONMENT = { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '' }

const startDemo = (...options: string[]): ChildProcess => {
  const demo = spawn(`${ROOT}agentgate`, ['demo', ...options], {
    env: ENVIRONMENT,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  onTestFinished(() => void demo.kill('SIGKILL'))
  return demo
}

interface Outcome {
  code: number | null
  events: RunEvent[]
  talk: string
}

async function outcomeOf(demo: ChildProcess): Promise<Outcome> {
  let [out, talk] = ['', '']
  demo.stdout?.on('data', (chunk) => {
    out += String(chunk)
  })
  demo.stderr?.on('data', (chunk) => {
    talk += String(chunk)
  })
  const code = await new Promise<number | null>((resolve) => demo.once('close', resolve))
  return {
    code,
    events: out
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line)),
    talk,
  }
}

const leftovers = async (demo: ChildProcess): Promise<string[]> =>
  (await readdir('/var/tmp')).filter((name) => name.startsWith(`agentgate-demo-${demo.pid}-`))

test('two demos at once: one repairs the bug in its second iteration, one never does', async () => {
  const [good, bad] = [startDemo('--json'), startDemo('--json', '--wrong')]
  const [repaired, failed] = await Promise.all([outcomeOf(good), outcomeOf(bad)])

  expect(repaired.talk).toContain('done after')
  expect(repaired.code).toBe(0)
  const types = repaired.events.map(({ type }) => type)
  const order = [
    'run.created',
    'workspace.ready',
    'step.completed',
    'tool.completed',
    'verification.failed',
    'verification.passed',
    'delivery.pushed',
    'delivery.pull_request',
    'run.completed',
  ]
  expect([...new Set(types)].filter((type) => order.includes(type))).toEqual(order)
  expect(types.filter((type) => type === 'iteration.started')).toHaveLength(2)
  expect(repaired.events.map(({ seq }) => seq)).toEqual(repaired.events.map((_, at) => at + 1))
  expect(repaired.talk).toMatch(/webhook .* run\.completed #\d+ received, signature verified/)
  expect(repaired.talk).toMatch(/charged +[1-9]\d* credits?; 99\d\d are left/)
  expect(repaired.talk).toMatch(/pull request http:\/\/127\.0\.0\.1:\d+\/demo\/\S+\/pull\/1\n/)

  expect(failed.code).toBe(1)
  expect(failed.events.at(-1)).toMatchObject({
    type: 'run.failed',
    data: { statusReason: 'limit_iterations' },
  })
  expect(failed.events.some(({ type }) => type.startsWith('delivery.'))).toBe(false)

  expect([...(await leftovers(good)), ...(await leftovers(bad))]).toEqual([])
}, 120_000)

test('Ctrl-C ends a demo with exit code 130 and leaves nothing', async () => {
  const demo = startDemo()
  await new Promise((resolve) => demo.stdout?.once('data', resolve))
  demo.kill('SIGINT')
  const code = await new Promise((resolve) => demo.once('close', resolve))
  expect(code).toBe(130)
  expect(await leftovers(demo)).toEqual([])
}, 60_000)

test('a repository of one’s own needs a real model', async () => {
  const { code, talk } = await outcomeOf(
    startDemo('--repo', 'https://git.example.com/a/b.git', '--prompt', 'x'),
  )
  expect(code).toBe(2)
  expect(talk).toContain('OPENAI_API_KEY')
})

test.each(BUGS.map((bug) => [bug.name, bug] as const))(
  'the project of %s passes its tests with the right repair only',
  async (_name, bug) => {
    const { files, repair } = brokenProject(Math.random, bug)
    const source = files[repair.file] ?? ''
    expect(source.split(repair.bug)).toHaveLength(2)
    const passes = (replacement: string): Promise<boolean> =>
      testsPass({ ...files, [repair.file]: source.replace(repair.bug, replacement) })
    const { wrong, alsoWrong, right } = repair
    expect(await Promise.all([repair.bug, wrong, alsoWrong, right].map(passes))).toEqual([
      false,
      false,
      false,
      true,
    ])
  },
)

async function testsPass(files: Readonly<Record<string, string>>): Promise<boolean> {
  const folder = await mkdtemp(join(tmpdir(), 'broken-project-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), text)
  }
  const suite = Object.keys(files).find((path) => path.startsWith('test/')) ?? ''
  return promisify(execFile)(process.execPath, [suite], { cwd: folder, env: ENVIRONMENT }).then(
    () => true,
    () => false,
  )
}
