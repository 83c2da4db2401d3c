import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, rmSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DEFAULT_LIMITS } from './jail.ts'
import { type JailFixture, openFixture, openFolder } from './jail-fixture.ts'
import { syscallFilter } from './syscall-filter.ts'

const MB = 2 ** 20
const LIMIT = 20 * MB
const TOO_MUCH = { outcome: 'disk_limit', reason: expect.stringContaining('more than the 21 MB') }
const megabytes = (count: number): string =>
  `mkdir -p full; for i in $(seq ${count}); do head -c 1048576 /dev/zero > full/$i || exit 9; done`

let jail: JailFixture
beforeAll(async () => {
  jail = await openFixture({ limits: { ...DEFAULT_LIMITS, diskBytes: LIMIT } })
})
afterAll(() => jail[Symbol.asyncDispose]())

const clear = (): void => rmSync(join(jail.workspace, 'full'), { recursive: true, force: true })
const usedMb = (): number =>
  Number.parseInt(execFileSync('du', ['-sm', jail.workspace], { encoding: 'utf8' }), 10)

describe('what a command writes to the disk', () => {
  test('is held at the limit while it runs', async () => {
    const result = await jail.sh(`${megabytes(2_000)}; sleep 30`)
    expect(result).toMatchObject(TOO_MUCH)
    expect(result.durationMs).toBeLessThan(10_000)
    expect(usedMb()).toBeLessThan(1_000)
    clear()
  })

  test('is looked at after its end too', async () => {
    expect(await jail.sh(megabytes(24))).toMatchObject(TOO_MUCH)
    clear()
    expect(await jail.sh(megabytes(12))).toMatchObject({ outcome: 'exited', exitCode: 0 })
    clear()
  })

  test('can be cleared up by a later command, which may not add to it', async () => {
    expect(await jail.sh(megabytes(24))).toMatchObject(TOO_MUCH)
    expect(await jail.sh('head -c 9000000 /dev/zero > full/more')).toMatchObject({ outcome: 'disk_limit' })
    expect(await jail.sh('rm -r full')).toMatchObject({ outcome: 'exited', exitCode: 0 })
    expect(await jail.sh('echo kept > kept; cat kept')).toMatchObject({ output: 'kept\n' })
  })

  test('counts empty files', async () => {
    const script = 'mkdir full; cd full; seq 6000 | xargs touch; sleep 30'
    expect(await jail.sh(script)).toMatchObject(TOO_MUCH)
    clear()
  })

  test('counts sparse files by what they hold, and none may be larger than all together', async () => {
    const sparse = 'mkdir full; for i in 1 2 3 4; do truncate -s 15M full/$i; done'
    expect(await jail.sh(sparse)).toMatchObject({ outcome: 'exited', exitCode: 0 })
    clear()
    expect(await jail.sh('mkdir full; exec truncate -s 1G full/line')).toMatchObject({
      outcome: 'disk_limit',
      reason: expect.stringContaining('a file larger than the 21 MB'),
    })
    clear()
  })

  test('counts files that have no name any more', async () => {
    const hidden =
      'for fd in 3 4; do eval "exec $fd>f"; rm f; head -c 15000000 /dev/zero >&$fd; done; sleep 30'
    expect(await jail.sh(hidden)).toMatchObject(TOO_MUCH)
  })

  test('counts the other folders that it may write', async () => {
    const source = join(jail.root, 'other')
    mkdirSync(source)
    await jail.slot.own(source)
    const mounts = [{ source, target: '/opt/other', readOnly: false }]
    const script = 'for i in $(seq 24); do head -c 1048576 /dev/zero > /opt/other/$i; done'
    expect(await jail.sh(script, { mounts })).toMatchObject(TOO_MUCH)
  })
})

describe.skipIf(syscallFilter() === undefined)('disk space that is reserved without writing', () => {
  const PYTHON = [
    ['fallocate', 'ENOTSUP', 'libc.fallocate(fd, 0, ctypes.c_long(0), ctypes.c_long(10**12))'],
    ['fallocate past the end', 'ENOTSUP', 'libc.fallocate(fd, 1, ctypes.c_long(0), ctypes.c_long(10**12))'],
    [
      'ioctl',
      'ENOTSUP',
      'libc.ioctl(fd, 0x4030582a, struct.pack("=hhxxxxqqII4i", 0, 0, 0, 10**12, 0, 0, 0, 0, 0, 0))',
    ],
    ['io_uring', 'ENOSYS', 'libc.syscall(425, 8, ctypes.create_string_buffer(256))'],
  ] as const
  test.each(PYTHON)('is refused: %s with %s', async (_name, refusal, call) => {
    const script = `import ctypes, errno, os, struct
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open("reserved", os.O_RDWR | os.O_CREAT)
print(${call}, errno.errorcode[ctypes.get_errno()])
print(os.fstat(fd).st_blocks)
os.unlink("reserved")`
    const result = await jail.sh('', { argv: ['/usr/bin/python3', '-c', script] })
    expect(result.output).toBe(`-1 ${refusal}\n0\n`)
  })

  test('leaves programs a way: posix_fallocate writes instead', async () => {
    const script =
      'import os; f = open("f", "w"); os.posix_fallocate(f.fileno(), 0, 9000); print(os.stat("f").st_size)'
    expect(await jail.sh('', { argv: ['/usr/bin/python3', '-c', script] })).toMatchObject({
      output: '9000\n',
    })
  })

  test('is not known for every kind of machine', () => {
    expect(syscallFilter('riscv64')).toBeUndefined()
    expect(syscallFilter('arm64')).not.toEqual(syscallFilter('x64'))
  })
})

const mayMount = process.getuid?.() === 0
describe.skipIf(!mayMount)('where the disk of the server runs short', () => {
  test('a command is stopped before it is full, also when its files have no names any more', async () => {
    const folder = openFolder()
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m,mode=711', 'tmpfs', folder])
    try {
      const root = join(folder, 'root')
      mkdirSync(root)
      chmodSync(root, 0o711)
      await using small = await openFixture({ diskFloorBytes: 24 * MB })
      const workspace = join(root, 'workspace')
      mkdirSync(workspace)
      await small.slot.own(workspace)
      const hidden =
        'exec 3>a; rm a; head -c 20000000 /dev/zero >&3; exec 4>b; rm b; head -c 22000000 /dev/zero >&4; sleep 30'
      const result = await small.sh(hidden, { workspace })
      expect(result).toMatchObject({ outcome: 'disk_limit', reason: expect.stringContaining('nearly full') })
      expect(result.durationMs).toBeLessThan(10_000)
      const { bavail, bsize } = statfsSync(folder)
      expect(bavail * bsize).toBeGreaterThan(60 * MB)
    } finally {
      execFileSync('umount', [folder])
      rmSync(folder, { recursive: true })
    }
  })
})
