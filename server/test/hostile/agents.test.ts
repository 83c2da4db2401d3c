import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { ANSWER, ANSWERED, type Arena, gateOf, lackingJail, shell, startArena, use } from './arena.ts'

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

describe.skipIf(lackingJail !== null)('an agent that means harm', () => {
  let arena: Arena
  beforeAll(async () => {
    arena = await startArena({}, [{ text: 'I go on and on. '.repeat(330_000) }])
  })
  afterAll(() => arena?.[Symbol.asyncDispose]())

  test('answers with 5 MB: its run fails by name and is charged for it, and another one goes on', async () => {
    const delivery = { mode: 'none' } as const
    const [talking, working] = await Promise.all([
      arena.try({ live: true, order: { delivery } }),
      arena.try({ steps: ANSWER, order: { gatePlan: ANSWERED } }),
    ])
    expect(talking.run).toMatchObject({
      state: 'failed',
      statusReason: 'model_error',
      error: { retryable: false, message: expect.stringContaining('more than 1,048,576 characters') },
      usage: { outputTokens: expect.any(Number) },
    })
    expect(talking.run.usage.outputTokens).toBeGreaterThan(200_000)
    expect(talking.text.length).toBeLessThan(2 ** 20)
    expect(working.run).toMatchObject({ state: 'completed', verification: 'passed' })
  })

  test('leaves daemons behind: they end with the command', async () => {
    const seen = await arena.try({
      steps: [shell('setsid nohup sleep 86413 >/dev/null 2>&1 & (sleep 86413 &) ; echo left')],
    })
    expect(seen.outcomes[0]).toMatchObject({ ok: true, content: expect.stringContaining('left') })
  })

  test('makes set-id files, devices, FIFOs and sockets: none is delivered with its power', async () => {
    const seen = await arena.try({
      steps: [
        shell(
          [
            'cp /bin/sh rootly; chmod 6755 rootly',
            'mknod disk b 259 0 || echo NO_BLOCK; mknod mem c 1 1 || echo NO_CHAR',
            'mkfifo pipe; mkdir -m 7777 sticky; touch sticky/in',
            'python3 -c \'import socket; socket.socket(socket.AF_UNIX).bind("sock")\' || true',
          ].join('\n'),
        ),
        use('read_file', { path: 'pipe' }),
        use('search', { pattern: 'nothing-like-this' }),
        use('list_files'),
      ],
      order: { gatePlan: gateOf('test ! -u rootly && test ! -g rootly && test ! -e pipe && test ! -e disk') },
    })
    expect(seen.outcomes[0]?.content).toMatch(/NO_BLOCK[\s\S]*NO_CHAR/)
    expect(seen.outcomes[1]).toMatchObject({
      ok: false,
      content: expect.stringContaining('not a regular file'),
    })
    expect(seen.run).toMatchObject({ state: 'completed', verification: 'passed' })
    expect(await seen.deliveredPaths()).toEqual(['README.md', 'rootly', 'sticky/in'])
  })

  test('plants hooks, configuration and filters in .git: nothing of it runs or is kept', async () => {
    const evil = `touch /var/tmp/agentgate-planted-$$; touch PLANTED`
    const seen = await arena.try({
      steps: [
        shell(`printf '#!/bin/sh\n${evil}\n' > .git/hooks/pre-commit`),
        shell(
          `git config core.fsmonitor '${evil}' || git config --file .git/config filter.x.clean '${evil}'`,
        ),
        shell(
          `rm -rf .git && git init -q && git config filter.x.clean '${evil}; cat' && git config filter.x.smudge '${evil}; cat' && git config core.fsmonitor '${evil}' && mkdir -p .git/hooks && printf '#!/bin/sh\n${evil}\n' > .git/hooks/post-checkout && chmod +x .git/hooks/*`,
        ),
        use('write_file', { path: '.gitattributes', content: '* filter=x\n' }),
        ...ANSWER,
      ],
      order: { gatePlan: gateOf('test ! -e PLANTED && test ! -e .git') },
    })
    expect(seen.run).toMatchObject({ state: 'completed', verification: 'passed' })
    expect(seen.outcomes[0]?.content).toMatch(/Read-only file system/)
    expect(await seen.deliveredPaths()).toEqual(['.gitattributes', 'README.md', 'answer.txt'])
  })

  test('puts a link or a file in the place of .git: the work is kept all the same', async () => {
    for (const place of ['ln -s /etc .git', 'echo gitdir: /etc > .git', 'mkfifo .git']) {
      const seen = await arena.try({
        steps: [shell(`rm -rf .git; mv .git .away; ${place}; ls -la`), shell('echo still here'), ...ANSWER],
        order: { gatePlan: ANSWERED },
      })
      expect(seen.run, place).toMatchObject({ state: 'completed', verification: 'passed' })
      expect(await seen.delivered('answer.txt')).toBe('right\n')
    }
  })

  test('names files with newlines, escapes and rules of git: they are data everywhere', async () => {
    const seen = await arena.try({
      steps: [
        shell(
          "printf x > \"$(printf 'a\\nb \\033[31mred\\033[0m\\007')\"; printf x > '--exec=id'; printf x > ':!all'",
        ),
        shell('printf x > "$(printf \'diff --git a_x b_x\')"; printf x > "$(printf \'bad\\377utf8\')"'),
        use('list_files'),
        use('search', { pattern: 'x' }),
      ],
      order: { gatePlan: gateOf('ls') },
    })
    expect(seen.run).toMatchObject({ state: 'completed' })
    const paths = await seen.deliveredPaths()
    expect(paths).toEqual(expect.arrayContaining(['--exec=id', ':!all', 'a\nb \u001b[31mred\u001b[0m\u0007']))
    // What people are shown as a report holds nothing that a terminal obeys.
    expect(seen.artifacts.get('gate-1-L1-check.txt')).not.toContain('\u001b')
  })

  test('looks for the host: no environment, process, socket or file of it is there', async () => {
    process.env['AGENTGATE_TEST_ARENA_CANARY'] = 'canary-of-the-server'
    const seen = await arena.try({
      steps: [
        shell('env; cat /proc/*/environ /proc/*/cmdline | tr "\\0" "\\n"'),
        shell('ls /root /home /var/tmp /run /etc; cat /etc/shadow; mount | head -40'),
        shell(
          '(exec 3<>/dev/tcp/127.0.0.1/80) 2>&1; curl -m 2 http://169.254.169.254/ 2>&1; ip addr 2>&1; cat /proc/net/dev',
        ),
        shell('unshare -r id 2>&1; bwrap --unshare-all true 2>&1; kill -9 -1; id'),
      ],
    })
    delete process.env['AGENTGATE_TEST_ARENA_CANARY']
    const said = seen.outcomes.map(({ content }) => content).join('\n')
    expect(said).not.toContain('canary-of-the-server')
    expect(said).not.toContain('AGENTGATE')
    expect(said).toMatch(/cat: \/etc\/shadow: No such file/)
    expect(said).toMatch(/Failed to connect to 169\.254\.169\.254/)
    expect(said).toMatch(/unshare failed[\s\S]*Creating new namespace failed[\s\S]*uid=1000\(agent\)/)
  })
})
