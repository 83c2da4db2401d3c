import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { runCommandLine } from '../src/cli/program.ts'
import { watchStopSignals } from '../src/cli/stop-signals.ts'
import { asHost, command, FakeHost, temporaryFolder } from './harness/command-line.ts'
import { type Gate, startGate } from './harness/gate.ts'
import { provideTestDatabase } from './harness/postgres.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const MASTER_KEY = Buffer.alloc(32, 7).toString('base64')

/** Settings of a server on a database of the test run. */
const serverSettings = async (): Promise<Record<string, string>> => ({
  PORT: '0',
  LOG_LEVEL: 'silent',
  DATABASE_URL: await provideTestDatabase(),
  AGENTGATE_MASTER_KEY: MASTER_KEY,
  AGENTGATE_DATA_DIR: join(await temporaryFolder(), 'data'),
  AGENTGATE_JAIL_SLOTS: '1',
  PATH: process.env.PATH ?? '',
})

describe('the commands that speak to a gateway', () => {
  const environment = (gate: Gate): Record<string, string> => ({
    AGENTGATE_BASE_URL: gate.url,
    AGENTGATE_API_KEY: gate.testKey,
  })

  test('keys are listed, made and revoked; only the new key itself goes to standard output', async () => {
    await using gate = await startGate()
    const made = await command(['keys', 'create', '--name', 'ci', '--scopes', 'runs:read'], environment(gate))
    expect(made.code).toBe(0)
    expect(made.out).toMatch(/^org_test_\S+\n$/)
    const listed = await command(['keys', 'list', '--json'], environment(gate))
    const keys: { id: string; name: string; scopes: string[] }[] = JSON.parse(listed.out)
    const key = keys.find(({ name }) => name === 'ci')
    expect(key).toMatchObject({ scopes: ['runs:read'] })
    expect((await command(['keys', 'revoke', key?.id ?? ''], environment(gate))).code).toBe(0)
    expect((await command(['keys', 'list'], environment(gate))).out).toMatch(/ci .*revoked/)
  })

  test('credits are granted, shown and listed', async () => {
    await using gate = await startGate()
    const settings = { ...environment(gate), AGENTGATE_API_KEY: gate.liveKey }
    const end = new Date(Date.now() + 86_400_000).toISOString()
    const argv = ['credits', 'grant', '25', '--purchase', '--expires', end, '--reason', 'order 7', '--json']
    const granted = await command(argv, settings)
    expect(granted.code).toBe(0)
    expect(JSON.parse(granted.out)).toMatchObject({ type: 'purchase', amountCents: 25, expiresAt: end })
    expect((await command(['credits', 'show'], settings)).out).toMatch(/purchased +25\ntotal +10025\n/)
    expect((await command(['credits', 'usage', '--type', 'purchase'], settings)).out).toMatch(
      /purchase +25 .*order 7/,
    )
    expect((await command(['credits', 'grant', 'much'], settings)).code).toBe(1)
  })

  test('the secret of a credential is read from standard input and never shown', async () => {
    await using gate = await startGate()
    const argv = ['credentials', 'add', 'git.example.com', '--use', 'read']
    const added = await command(argv, environment(gate), { input: 's3cret-token\n' })
    expect(added.code).toBe(0)
    const listed = await command(['credentials', 'list'], environment(gate))
    expect(listed.out).toContain('git.example.com')
    expect(added.out + added.err + listed.out).not.toContain('s3cret')
    const removed = await command(['credentials', 'remove', added.out.trim()], environment(gate))
    expect(removed.code).toBe(0)
    expect(await command(argv, environment(gate), { input: ' \n' })).toMatchObject({ code: 2 })
  })

  test('the webhook secret is shown and rotated', async () => {
    await using gate = await startGate()
    const shown = await command(['webhooks', 'secret'], environment(gate))
    const rotated = await command(['webhooks', 'secret', '--rotate'], environment(gate))
    expect(shown.out).toMatch(/^whsec_\S+\n$/)
    expect(rotated.out).toMatch(/^whsec_\S+\n$/)
    expect(rotated.out).not.toBe(shown.out)
    expect(rotated.err).toContain('the secret before it also signs until')
  })

  test('a run is listed, shown, followed to its end, and canceled', async () => {
    await using gate = await startGate()
    const done = await gate.testClient.runs.create({ agent: 'scripted', input: 'Say hello.' })
    const watched = await command(['runs', 'watch', done.id], environment(gate))
    expect(watched).toMatchObject({ code: 0, err: '' })
    expect(watched.out).toMatch(/^#1 run\.created .*\n(#\d+ .*\n)+#\d+ run\.completed /)
    expect((await command(['runs', 'show', done.id], environment(gate))).out).toContain('succeeded')

    const script = { steps: [{ text: 'a long wait', delayMs: 600_000 }] }
    const long = await gate.testClient.runs.create({ agent: 'scripted', input: 'Wait.', test: { script } })
    const canceled = await command(['runs', 'cancel', long.id, '--json'], environment(gate))
    expect(JSON.parse(canceled.out)).toMatchObject({ id: long.id, state: 'canceled' })
    const again = await command(['runs', 'watch', long.id, '--json'], environment(gate))
    expect(again.code).toBe(1)
    const events = again.out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(events.at(-1)).toMatchObject({ type: 'run.canceled', runId: long.id, seq: events.length })
    expect((await command(['runs', 'list', '--status', 'canceled'], environment(gate))).out).toContain(
      long.id,
    )
  })

  test('what the gateway refuses is a sentence, and exit code 1', async () => {
    await using gate = await startGate()
    const missing = await command(['runs', 'show', 'run_nothing'], environment(gate))
    expect(missing).toMatchObject({ code: 1, out: '' })
    expect(missing.err).toMatch(/does not exist.*RESOURCE_NOT_FOUND, request req_/)
  })

  test('a gateway that is away is a sentence that says how to start one', async () => {
    const outcome = await command(['runs', 'list'], {
      AGENTGATE_BASE_URL: 'http://127.0.0.1:9',
      AGENTGATE_API_KEY: 'org_live_x',
    })
    expect(outcome.code).toBe(1)
    expect(outcome.err).toContain('./agentgate start')
  }, 60_000)

  test('without a key, and for wrong words, the exit code is 2', async () => {
    const folder = await temporaryFolder()
    const none = await command(['runs', 'list'], { AGENTGATE_DATA_DIR: folder })
    expect(none).toMatchObject({ code: 2 })
    expect(none.err).toContain('AGENTGATE_API_KEY')
    expect(await command(['dance'], {})).toMatchObject({ code: 2, out: '' })
    expect(await command(['runs', 'show'], {})).toMatchObject({ code: 2 })
    expect(
      await command(['demo', '--repo', 'https://git.example.com/a/b', '--prompt', 'x'], {}),
    ).toMatchObject({
      code: 2,
      err: expect.stringContaining('OPENAI_API_KEY'),
    })
  })
})

describe('start', () => {
  test('all mistakes of the settings are reported together, with exit code 78', async () => {
    const outcome = await command(['start'], { PORT: 'eighty', LOG_LEVEL: 'loud', AGENTGATE_TYPO: '1' })
    expect(outcome.code).toBe(78)
    for (const name of ['PORT', 'LOG_LEVEL', 'AGENTGATE_TYPO']) expect(outcome.err).toContain(name)
  })

  test('a folder with somebody’s own files is refused and left alone', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'thesis.txt'), 'mine')
    const outcome = await command(['start'], { AGENTGATE_DATA_DIR: folder, PORT: '0' })
    expect(outcome.code).toBe(1)
    expect(outcome.err).toContain('it holds thesis.txt')
    expect(await readdir(folder)).toEqual(['thesis.txt'])
  })

  test.each(['/proc/agentgate/data', '/etc/hostname/data'])(
    'is refused where there can be none: %s',
    async (folder) => {
      const outcome = await command(['start'], { AGENTGATE_DATA_DIR: folder, PORT: '0' })
      expect(outcome.err).toContain(`There can be no data folder ${folder}`)
      expect(outcome.err).toContain('AGENTGATE_DATA_DIR')
      expect(outcome.code).toBe(1)
    },
  )

  test('a port in use is a sentence, and the first keys are not lost', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    onTestFinished(() => void other.close())
    const address = other.address()
    const settings = await serverSettings()
    settings.PORT = String(typeof address === 'object' ? address?.port : 0)
    const outcome = await command(['start'], settings, { isTTY: true })
    expect(outcome.code).toBe(1)
    expect(outcome.err).toContain(settings.PORT)
    const keys = await readFile(join(settings.AGENTGATE_DATA_DIR ?? '', 'first-keys.env'), 'utf8')
    expect(keys).toMatch(/^AGENTGATE_API_KEY=org_live_/m)
  })

  test('a person sees the first keys once, and no file holds them', async () => {
    const settings = await serverSettings()
    const host = new FakeHost({ isTTY: true })
    const ended = runCommandLine(['start'], asHost(host), settings)
    const shown = await untilSaid(host, 'curl')
    expect(shown).toMatch(/AGENTGATE_API_KEY=org_live_\S+\n.*AGENTGATE_TEST_API_KEY=org_test_/)
    expect(shown).toMatch(/Bearer org_test_/)
    host.emit('SIGINT')
    expect(await ended).toBe(130)
    expect(await readdir(settings.AGENTGATE_DATA_DIR ?? '')).not.toContain('first-keys.env')
  })

  test('a person at a terminal reads the log as sentences', async () => {
    const host = new FakeHost({ isTTY: true })
    const settings = { ...(await serverSettings()), LOG_LEVEL: 'info', NO_COLOR: '1' }
    const ended = runCommandLine(['start'], asHost(host), settings)
    await untilSaid(host, 'curl')
    host.emit('SIGINT')
    await ended
    const said = host.err
    expect(said).toMatch(/^\d\d:\d\d:\d\d The log has other months\. made=/m)
    expect(said).not.toContain('{"level"')
  })

  test('elsewhere they go to a file of their user alone, and the curl line reads them from there', async () => {
    const settings = await serverSettings()
    const host = new FakeHost()
    const ended = runCommandLine(['start'], asHost(host), settings)
    const shown = await untilSaid(host, 'curl')
    expect(shown).not.toMatch(/org_(?:live|test)_/)
    const file = /first keys +(\S+)/.exec(shown)?.[1] ?? ''
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    const line = shown.trimEnd().split('\n').at(-1) ?? ''
    const { stdout } = await promisify(execFile)('/bin/sh', ['-c', line])
    expect(JSON.parse(stdout)).toMatchObject({ mode: 'test', status: 'succeeded' })
    host.emit('SIGTERM')
    expect(await ended).toBe(0)
  })

  test('a second signal ends the process at once; what npm repeats is no second one', async () => {
    vi.useFakeTimers()
    onTestFinished(() => void vi.useRealTimers())
    const host = new FakeHost()
    const stop = watchStopSignals(asHost(host), { watchParent: false })
    host.emit('SIGINT')
    vi.advanceTimersByTime(100)
    host.emit('SIGINT')
    expect(await stop.asked).toBe(130)
    expect(host.exits).toEqual([])
    vi.advanceTimersByTime(1000)
    host.emit('SIGTERM')
    expect(host.exits).toEqual([143])
    stop.forget()
  })

  test.each([['SIGTERM' as const], ['SIGKILL' as const]])(
    '%s to npm drains the server that npm has started',
    async (signal) => {
      const settings = await serverSettings()
      const npm = spawn('npm', ['start', '--silent', '--', '--json'], {
        cwd: ROOT,
        // npm keeps its logs in its user's home, and not every user has one.
        env: { ...settings, HOME: dirname(settings.AGENTGATE_DATA_DIR ?? '') },
        stdio: ['ignore', 'pipe', 'pipe'],
        detached: true,
      })
      onTestFinished(() => endGroup(npm))
      const { url }: { url: string } = JSON.parse(await firstLine(npm))
      expect((await fetch(`${url}/healthz`)).status).toBe(200)
      const talk = allOf(npm.stderr)
      npm.kill(signal)
      // It ends with the last process of npm's group.
      expect(await talk).toMatch(/stopping: .*\n(.*\n)*stopped\n/)
      await expect(fetch(`${url}/healthz`)).rejects.toThrow()
    },
    60_000,
  )

  test('a server whose standard output has no reader drains', async () => {
    const server = await spawnServer()
    server.stdout?.destroy()
    const [talk, [code]] = await Promise.all([allOf(server.stderr), once(server, 'exit')])
    expect(talk).toMatch(/stopping: .*\nstopped\n$/)
    expect(code).toBe(0)
  }, 60_000)

  test('a server whose talk and log nobody reads goes on, and drains when its terminal is closed', async () => {
    const server = await spawnServer({ LOG_LEVEL: 'info', NO_COLOR: '1' })
    server.stderr?.destroy()
    const { url }: { url: string } = JSON.parse(await firstLine(server))
    expect((await fetch(`${url}/healthz`)).status).toBe(200)
    server.kill('SIGHUP')
    expect(await once(server, 'exit')).toEqual([0, null])
  }, 60_000)

  test.runIf(process.platform === 'linux')(
    'a shell that keeps everybody out of new folders does not keep jails out',
    async () => {
      const server = await spawnServer({}, ['sh', '-c', 'umask 077; exec "$0" "$@"', ...START])
      await firstLine(server)
      expect(await readFile(`/proc/${server.pid}/status`, 'utf8')).toMatch(/^Umask:\s+0022$/m)
    },
    60_000,
  )
})

const START = [process.execPath, 'scripts/agentgate.mjs', 'start', '--json']

/** A server in a process of its own, without npm. */
async function spawnServer(
  more: Record<string, string> = {},
  [program = '', ...args] = START,
): Promise<ChildProcess> {
  const server = spawn(program, args, {
    cwd: ROOT,
    env: { ...(await serverSettings()), ...more },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  onTestFinished(() => void server.kill('SIGKILL'))
  return server
}

/** All that stands on standard output once `text` is there. */
async function untilSaid(host: FakeHost, text: string): Promise<string> {
  let said = ''
  for await (const chunk of host.stdout) {
    said += String(chunk)
    if (said.includes(text)) break
  }
  return said
}

async function firstLine({ stdout, stderr }: ChildProcess): Promise<string> {
  let text = ''
  for await (const chunk of stdout ?? []) {
    text += String(chunk)
    if (text.includes('\n')) break
  }
  if (text === '') throw new Error(`It ended without a word: ${await allOf(stderr)}`)
  return text.split('\n')[0] ?? ''
}

async function allOf(stream: Readable | null): Promise<string> {
  let text = ''
  for await (const chunk of stream ?? []) text += String(chunk)
  return text
}

function endGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL')
  } catch {
    return
  }
}
