import { createServer } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type JailedCommand, protectGit } from './jail.ts'
import { type JailFixture, openFixture } from './jail-fixture.ts'

/** One thing a hostile command tries. It passes when the output shows what stopped it. */
interface Attempt {
  attempt: string
  script: string
  stoppedBy: string
  shows: RegExp
  options?: Partial<JailedCommand>
}

const MB = 2 ** 20
const fill = (path: string): string => `head -c ${64 * MB} /dev/zero > ${path}; stat -c %s ${path}`
const full = { stoppedBy: 'size of the tmpfs', shows: /No space left on device[\s\S]*\n1048576\n/ }

const ATTEMPTS: Attempt[] = [
  {
    attempt: 'reach a host on the network',
    script: 'python3 -c "import socket; socket.create_connection((\'192.0.2.1\', 80), 2)"',
    stoppedBy: 'network namespace with lo only',
    shows: /Network is unreachable/,
  },
  {
    attempt: 'resolve a name',
    script: 'getent hosts example.com || echo nobody',
    stoppedBy: 'no resolver inside',
    shows: /^nobody$/m,
  },
  {
    attempt: 'read the folders of the host',
    script: 'ls -d /root /home/* /var/lib /opt /srv /mnt /run/* /sys 2>&1',
    stoppedBy: 'mount namespace: only /usr and synthetic files',
    shows: /^(ls: cannot access .*\n)*\/home\/agent\n(ls: cannot access .*\n)*$/,
  },
  {
    attempt: 'write to the system',
    script: 'touch /usr/x /x /etc/x /dev/x',
    stoppedBy: 'read-only mounts',
    shows: /(Read-only file system[\s\S]*){4}/,
  },
  {
    attempt: 'write to the account files',
    script: 'echo x >> /etc/passwd',
    stoppedBy: 'read-only mounts',
    shows: /cannot create \/etc\/passwd/,
  },
  {
    attempt: 'see or signal foreign processes',
    script: 'ls /proc | grep -c "^[0-9]"; kill -9 -1; echo unreachable',
    stoppedBy: 'pid namespace',
    shows: /^[1-9]\n/,
  },
  {
    attempt: 'make a user namespace',
    script: 'unshare --user --map-root-user id',
    stoppedBy: '--disable-userns',
    shows: /unshare failed: No space left on device/,
  },
  {
    attempt: 'mount something',
    script: 'mount -t tmpfs none /tmp',
    stoppedBy: 'no capabilities',
    shows: /permission denied|must be superuser/i,
  },
  {
    attempt: 'become root through a setuid program',
    script: 'su -c id; grep -E "NoNewPrivs|CapEff|CapBnd" /proc/self/status',
    stoppedBy: 'no-new-privileges, nosuid, no capabilities',
    shows: /CapEff:\t0+\nCapBnd:\t0+\nNoNewPrivs:\t1/,
  },
  {
    attempt: 'make a device node',
    script: 'mknod disk b 8 0',
    stoppedBy: 'no capabilities',
    shows: /Operation not permitted/,
  },
  {
    attempt: 'follow a link out of the workspace',
    script: 'ln -s /root/.ssh out; ln -s /etc/shadow shadow; cat out/id_rsa shadow',
    stoppedBy: 'mount namespace',
    shows: /(No such file or directory[\s\S]*){2}/,
  },
  {
    attempt: 'start more processes than allowed',
    script: 'for i in $(seq 80); do sleep 9 & done; wait',
    stoppedBy: 'pids limit',
    shows: /Cannot fork|Resource temporarily unavailable/i,
    options: { limits: { processes: 40 } },
  },
  {
    attempt: 'take more memory than allowed',
    script: 'head -c 400000000 /dev/zero | tail | wc -c; echo ended',
    stoppedBy: 'memory limit',
    shows: /(^0\n|Killed|exhausted)[\s\S]*ended/,
    options: { limits: { memoryBytes: 64 * MB } },
  },
  { attempt: 'fill /tmp', script: fill('/tmp/x'), ...full, options: { limits: { tmpBytes: MB } } },
  { attempt: 'fill /dev/shm', script: fill('/dev/shm/x'), ...full, options: { limits: { tmpBytes: MB } } },
  { attempt: 'fill the home folder', script: fill('~/x'), ...full, options: { limits: { tmpBytes: MB } } },
  {
    attempt: 'write one huge file into the workspace',
    script: 'head -c 9000000 /dev/zero > huge; stat -c %s huge; rm huge',
    stoppedBy: 'file size limit',
    shows: /^1048576$/m,
    options: { limits: { fileBytes: MB } },
  },
  {
    attempt: 'open files without end',
    script: 'python3 -c "import os\nwhile True: os.dup(1)" 2>&1 | tail -1',
    stoppedBy: 'open files limit',
    shows: /Too many open files/,
    options: { limits: { openFiles: 64 } },
  },
  {
    attempt: 'raise its own limits',
    script: 'prlimit --nofile=100000 true',
    stoppedBy: 'no capabilities',
    shows: /Operation not permitted/,
    options: { limits: { openFiles: 64 } },
  },
  {
    attempt: 'configure git, plant a hook, replace .git',
    script: `git config core.fsmonitor ./evil; echo evil > .git/hooks/pre-commit; mv .git other; rm -rf .git/hooks; cat .git/config`,
    stoppedBy: 'read-only mounts over .git',
    shows:
      /could not lock|Device or resource busy[\s\S]*Directory nonexistent|Read-only file system[\s\S]*busy/,
  },
]

const held: { attempt: string; stoppedBy: string }[] = []
let jail: JailFixture

beforeAll(async () => {
  jail = await openFixture()
  await jail.sh('git init -q .')
})
afterAll(async () => {
  await jail[Symbol.asyncDispose]()
  const width = Math.max(...ATTEMPTS.map(({ attempt }) => attempt.length))
  const rows = held.map(({ attempt, stoppedBy }) => `${attempt.padEnd(width)}  ${stoppedBy}`)
  process.stdout.write(`\n${'attempt'.padEnd(width)}  what stopped it\n${rows.join('\n')}\n`)
})

test.each(ATTEMPTS)('a command cannot: $attempt', async ({ attempt, script, stoppedBy, shows, options }) => {
  const result = await jail.sh(script, { mounts: protectGit(jail.workspace), ...options })

  expect(result.output).toMatch(shows)
  held.push({ attempt, stoppedBy })
})

test('a command cannot reach a server on the loopback of the host', async () => {
  const server = createServer((socket) => socket.end('reached'))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : undefined

  const result = await jail.sh(`python3 -c "import socket; socket.create_connection(('127.0.0.1', ${port}))"`)

  await new Promise((resolve) => server.close(resolve))
  expect(result.output).toMatch(/Connection refused/)
  held.push({ attempt: "reach the host's loopback", stoppedBy: 'network namespace with lo only' })
})
