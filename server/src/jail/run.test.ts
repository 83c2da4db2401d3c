import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { needsRoot } from '../../test/harness/report.ts'
import { cleanJails, type JailedCommand, openJails } from './jail.ts'
import { type JailFixture, openFixture, openFolder, silentLog } from './jail-fixture.ts'

let jail: JailFixture

beforeAll(async () => {
  jail = await openFixture()
})
afterAll(() => jail[Symbol.asyncDispose]())

/** Command lines of all processes that contain the word. */
const processesWith = (word: string): string[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      } catch {
        return ''
      }
    })
    .filter((line) => line.includes(word))

describe('how a command ends', () => {
  test('an exit code is passed on', async () => {
    expect(await jail.sh('exit 7')).toMatchObject({ outcome: 'exited', exitCode: 7 })
  })

  test('a death by signal is named', async () => {
    expect(await jail.sh('kill -TERM $$')).toMatchObject({ outcome: 'signaled', signal: 'SIGTERM' })
  })

  test('a program that does not exist ends with 127 and says so', async () => {
    const result = await jail.sh('', { argv: ['no-such-program'] })

    expect(result).toMatchObject({ outcome: 'exited', exitCode: 127 })
    expect(result.output).toContain('no-such-program')
  })

  test('a workspace that does not exist refuses the command with a reason', async () => {
    const result = await jail.sh('true', { workspace: '/nonexistent' })

    expect(result).toMatchObject({
      outcome: 'refused_to_start',
      reason: expect.stringContaining('/nonexistent'),
    })
  })

  test('a timeout ends grandchildren that left their session', async () => {
    const script =
      'setsid nohup sleep 86411 >/dev/null 2>&1 & (setsid sleep 86411 &) ; echo ready; sleep 86411'
    const result = await jail.sh(script, { timeoutMs: 700 })

    expect(result).toMatchObject({ outcome: 'timed_out', output: 'ready\n' })
    expect(processesWith('86411')).toEqual([])
  })

  test('a command that returns leaves nothing running in the background', async () => {
    const result = await jail.sh('setsid nohup sleep 86412 >/dev/null 2>&1 & sleep 0.1; echo done')

    expect(result).toMatchObject({ outcome: 'exited', exitCode: 0, output: 'done\n' })
    expect(processesWith('86412')).toEqual([])
  })

  test('a fork bomb is held and ends with its timeout', async () => {
    const script = 'bomb() { bomb 86413 | bomb 86413 & }; bomb 2>/dev/null & exec sleep 60'
    const result = await jail.sh(script, { timeoutMs: 1_000, limits: { processes: 60 } })

    expect(result.outcome).toBe('timed_out')
    expect(processesWith('86413')).toEqual([])
  })

  test('an abort ends the command', async () => {
    const controller = new AbortController()
    const result = await jail.sh('echo started; sleep 86414', {
      signal: controller.signal,
      onOutput: () => controller.abort(),
    })

    expect(result).toMatchObject({ outcome: 'canceled', killed: true, output: 'started\n' })
    expect(processesWith('86414')).toEqual([])
  })

  test('an abort before the start runs nothing', async () => {
    const result = await jail.sh('touch ran', { signal: AbortSignal.abort() })

    expect(result).toMatchObject({ outcome: 'canceled', killed: false })
    expect(existsSync(join(jail.workspace, 'ran'))).toBe(false)
  })

  test('a slot runs one command at a time', async () => {
    const controller = new AbortController()
    const first = jail.sh('sleep 60', { signal: controller.signal })
    const second = await jail.sh('true')
    controller.abort()

    expect(second).toMatchObject({
      outcome: 'refused_to_start',
      reason: expect.stringContaining('another command'),
    })
    expect((await first).outcome).toBe('canceled')
  })
})

describe('what a command sees', () => {
  test('a flood of output is counted, cut and never held in memory', async () => {
    const before = process.memoryUsage().rss
    const result = await jail.sh('echo first; head -c 100000000 /dev/zero | tr "\\0" x; echo last', {
      maxOutputBytes: 1_000,
    })

    expect(result).toMatchObject({ outcome: 'exited', truncated: true, outputBytes: 100_000_011 })
    expect(result.output).toMatch(/^first\nx+\n\[… 99999011 bytes left out …\]\nx+last\n$/)
    expect(process.memoryUsage().rss - before).toBeLessThan(60_000_000)
  })

  test('output and errors keep their order, also through /dev/stderr', async () => {
    const result = await jail.sh('echo 1; echo 2 >&2; echo 3; echo 4 >/dev/stderr; echo 5 >/dev/stdout')

    expect(result.output).toBe('1\n2\n3\n4\n5\n')
  })

  test('output that is not text becomes storable', async () => {
    expect((await jail.sh(`printf 'a\\000b\\377c'`)).output).toBe('a\uFFFDb\uFFFDc')
  })

  test('standard input is given, and is empty otherwise', async () => {
    expect((await jail.sh('cat; echo end', { stdin: 'hello ' })).output).toBe('hello end\n')
    expect((await jail.sh('cat; echo end')).output).toBe('end\n')
  })

  test('nothing of the environment of the server enters', async () => {
    process.env['AGENTGATE_CANARY'] = 'canary'
    const result = await jail.sh('env | cut -d= -f1 | sort | tr "\\n" " "', { env: { CI: 'true' } })
    delete process.env['AGENTGATE_CANARY']

    expect(result.output).toBe('CI HOME LANG LOGNAME PATH PWD TERM TMPDIR USER ')
  })

  test('a value of the environment is in no command line of the host', async () => {
    let seen: string[] = ['not looked']
    const result = await jail.sh('echo $TOKEN; sleep 0.2', {
      env: { TOKEN: 'token-86415' },
      onOutput: () => {
        seen = processesWith('token-86415')
      },
    })

    expect(result.output).toBe('token-86415\n')
    expect(seen).toEqual([])
  })

  test.each<[string, Partial<JailedCommand>]>([
    ['a NUL that would smuggle in a mount', { env: { A: 'x\0--bind\0/\0/host' } }],
    ['a variable of the program loader', { env: { LD_PRELOAD: '/workspace/evil.so' } }],
    ['no program', { argv: [] }],
    ['an argument longer than the kernel takes', { argv: ['true', 'x'.repeat(3_000_000)] }],
    ['a proxy that is not there', { network: { proxySocket: '/nonexistent/proxy.sock' } }],
    ['a relative workspace', { workspace: 'workspace' }],
  ])('a command with %s is refused', async (_, command) => {
    expect((await jail.sh('true', command)).outcome).toBe('refused_to_start')
  })

  test('the usual tools work', async () => {
    const script = `set -e
      whoami; getent hosts localhost >/dev/null; echo 'BEGIN { print "awk" }' | awk -f /dev/stdin
      node -e 'console.log(os.userInfo().username); dns.lookup("localhost", (e) => console.log(e ?? "found"))'
      python3 -c 'print("python")'
      mkdir project; cd project; git init -q .
      echo 'import test from "node:test"; test("sum", () => {})' > sum.test.mjs
      echo '{"scripts":{"test":"node --test"}}' > package.json
      git add .; git -c user.name=a -c user.email=a@b commit -qm first; git log --format=%s
      node --test | grep '^# pass'
      npm test --silent | grep '^# pass'`
    const result = await jail.sh(script)

    expect(result.output).toBe('agent\nawk\nagent\nfound\npython\nfirst\n# pass 1\n# pass 1\n')
    expect(result).toMatchObject({ outcome: 'exited', exitCode: 0 })
  })

  test('further folders are mounted as asked, read-only or not', async () => {
    const tree = join(jail.root, 'tree')
    mkdirSync(tree)
    writeFileSync(join(tree, 'a'), 'a\n')
    await jail.slot.own(tree)
    const mount = { source: tree, target: '/workspace/node_modules' }

    const readOnly = await jail.sh('cat node_modules/a; touch node_modules/b', {
      mounts: [{ ...mount, readOnly: true }],
    })
    const writable = await jail.sh('touch node_modules/b', { mounts: [{ ...mount, readOnly: false }] })

    expect(readOnly.output).toMatch(/^a\n.*Read-only file system/)
    expect(writable).toMatchObject({ outcome: 'exited', exitCode: 0 })
    expect(readdirSync(tree)).toEqual(['a', 'b'])
  })
})

describe.skipIf(needsRoot('a uid for each slot'))('a slot of a server that runs as root', () => {
  test('writes files under its own uid', async () => {
    await jail.sh('touch mine')

    expect(statSync(join(jail.workspace, 'mine')).uid).toBe(jail.slot.uid)
    expect(jail.slot.uid).not.toBe(0)
  })

  test('leaves no set-id bit behind when its files are taken back', async () => {
    await jail.sh('cp /usr/bin/id setuid; chmod 6755 setuid; mkdir sticky; ln -s /etc/passwd link')
    const file = join(jail.workspace, 'setuid')
    const before = statSync(file)
    await jail.slot.disown(jail.workspace)
    const after = statSync(file)
    await jail.slot.own(jail.workspace)

    expect([before.mode & 0o6000, before.uid]).toEqual([0o6000, jail.slot.uid])
    expect([after.mode & 0o6000, after.uid]).toEqual([0, 0])
    expect(statSync('/etc/passwd').uid).toBe(0)
  })

  test('two slots cannot read the files of each other', async () => {
    await using other = await openFixture({ baseUid: 60_101 })
    chmodSync(other.workspace, 0o700)
    writeFileSync(join(other.workspace, 'secret'), 'secret')
    await other.slot.own(other.workspace)

    const result = await jail.sh('cat other/secret', {
      mounts: [{ source: other.workspace, target: '/workspace/other', readOnly: true }],
    })

    expect(result.output).toMatch(/Permission denied/)
  })
})

describe('slots', () => {
  test('a slot is waited for, and a wait can be given up', async () => {
    const root = openFolder()
    {
      await using jails = await openJails({ log: silentLog, slots: 1, preferred: 'none', root })
      const first = await jails.acquireSlot()
      const abort = new AbortController()
      const given = expect(jails.acquireSlot(abort.signal)).rejects.toThrow('enough')
      const second = jails.acquireSlot()
      abort.abort(new Error('enough'))
      first.release()
      first.release()

      await given
      expect((await second).index).toBe(0)
      expect((await first.run({ ...plainCommand(root), argv: ['true'] })).outcome).toBe('refused_to_start')
    }
    rmSync(root, { recursive: true })
  })

  test('closing the jails ends what runs and leaves nothing on the host', async () => {
    const fixture = await openFixture()
    const groups = groupsOf(process.pid)
    const running = fixture.sh('sleep 86416')
    await fixture[Symbol.asyncDispose]()

    expect((await running).outcome).toBe('canceled')
    expect(processesWith('86416')).toEqual([])
    expect(existsSync(fixture.root)).toBe(false)
    expect(groupsOf(process.pid).length).toBe(Math.max(groups.length - 1, 0))
  })

  test('a killed server takes its commands with it, and the next start removes what is left', async () => {
    const root = openFolder()
    const server = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', KILLED_SERVER], {
      env: { ...process.env, ROOT: root },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(server.stdout, 'data')
    expect(processesWith('86418')).not.toEqual([])
    server.kill('SIGKILL')
    await once(server, 'exit')

    await expect.poll(() => processesWith('86418')).toEqual([])
    cleanJails(root)
    expect(readdirSync(root)).toEqual(['workspace'])
    expect(groupsOf(server.pid)).toEqual([])
    rmSync(root, { recursive: true })
  })

  test('what a dead server left is removed, and what a living one uses is not', () => {
    const root = openFolder()
    const pid = Number(execFileSync('/bin/sh', ['-c', 'echo $$'], { encoding: 'utf8' }))
    mkdirSync(join(root, `jails-${pid}-12345-1`))
    mkdirSync(join(root, 'run_1'))
    const own = readdirSync(jail.root).find((name) => name.startsWith('jails-')) ?? ''
    mkdirSync(join(root, own))

    cleanJails(root)

    expect(readdirSync(root).sort()).toEqual([own, 'run_1'].sort())
    rmSync(root, { recursive: true })
  })
})

test('the jail finds that it holds all it promises', async () => {
  await using fixture = await openFixture()
  fixture.slot.release()

  const findings = await fixture.jails.probe()

  expect(findings.filter((finding) => !finding.holds)).toEqual([])
  expect(findings).toHaveLength(10)
})

test('the jail finds out what it does not hold', async () => {
  const folder = openFolder()
  const bwrap = join(folder, 'bwrap')
  const weaken = "tr '\\0' '\\n' <&4 | sed '/^--disable-userns$/d; /^--size$/{N;d}' | tr '\\n' '\\0'"
  writeFileSync(bwrap, `#!/bin/sh\n${weaken} | (exec 4<&0 0</dev/null; exec /usr/bin/bwrap "$@")\n`)
  chmodSync(bwrap, 0o755)
  await using fixture = await openFixture({ bwrap })
  fixture.slot.release()

  const findings = await fixture.jails.probe()
  rmSync(folder, { recursive: true })

  expect(findings.filter((finding) => !finding.holds).map((finding) => finding.name)).toEqual([
    'user namespaces',
    'temporary files',
  ])
})

describe('without a jail', () => {
  test('commands are refused with what to do about it', async () => {
    await using fixture = await openFixture({ bwrap: '/nonexistent/bwrap' })

    const result = await fixture.sh('touch ran')

    expect(result).toMatchObject({
      outcome: 'refused_to_start',
      reason: expect.stringContaining('install bubblewrap'),
    })
    expect(existsSync(join(fixture.workspace, 'ran'))).toBe(false)
  })

  test('commands run with the rights of the server when the operator says so, and the report says it', async () => {
    const root = openFolder()
    {
      await using jails = await openJails({ log: silentLog, slots: 1, preferred: 'none', root })
      const slot = await jails.acquireSlot()
      const result = await slot.run({ ...plainCommand(root), argv: ['sh', '-c', 'id -u; pwd; exit 3'] })
      const stuck = await slot.run({
        ...plainCommand(root),
        argv: ['sh', '-c', 'sleep 86417 & sleep 86417'],
        timeoutMs: 300,
      })

      expect(jails.report).toMatchObject({
        jail: 'none',
        summary: "no jail: untrusted work runs with the server's rights",
      })
      expect(result).toMatchObject({
        outcome: 'exited',
        exitCode: 3,
        output: `${process.getuid?.()}\n${root}\n`,
      })
      expect(stuck.outcome).toBe('timed_out')
      expect(processesWith('86417')).toEqual([])
    }
    rmSync(root, { recursive: true })
  })
})

const plainCommand = (workspace: string) => ({
  workspace,
  timeoutMs: 10_000,
  maxOutputBytes: 1_000,
  signal: new AbortController().signal,
})

const KILLED_SERVER = `
import { mkdirSync } from 'node:fs'
import { openJails } from ${JSON.stringify(new URL('./jail.ts', import.meta.url).href)}
const root = process.env.ROOT
const workspace = root + '/workspace'
mkdirSync(workspace)
const log = { info() {}, warn() {} }
const slot = await (await openJails({ log, slots: 1, preferred: 'bubblewrap', root })).acquireSlot()
const argv = ['sh', '-c', 'setsid sleep 86418 & echo ready; sleep 86418']
const signal = new AbortController().signal
const onOutput = () => console.log('ready')
await slot.run({ argv, workspace, timeoutMs: 60000, maxOutputBytes: 100, signal, onOutput })
`

/** Control groups of version 1 that the jails of a process have made. */
function groupsOf(pid: number | undefined): string[] {
  const folder = '/sys/fs/cgroup/pids'
  if (!existsSync(folder)) return []
  return readdirSync(folder).filter((name) => name.startsWith(`agentgate-${pid}-`))
}
