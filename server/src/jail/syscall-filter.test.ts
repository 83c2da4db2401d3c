import { existsSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { describe, expect, test } from 'vitest'
import { isSkipped } from '../../test/harness/report.ts'
import { syscallFilter } from './syscall-filter.ts'

const { ENOSYS, EOPNOTSUPP } = constants.errno

/** What the kernel hands to a filter. */
interface SystemCall {
  number: number
  audit: number
  /** The second argument; a filter sees all 64 bits of it. */
  request?: bigint
}

type Verdict = 'allow' | { errno: number }

interface Instruction {
  code: number
  whenTrue: number
  otherwise: number
  value: number
}

function instructionsOf(machine: string): Instruction[] {
  const program = syscallFilter(machine) ?? Buffer.alloc(0)
  expect(program.length % 8).toBe(0)
  return Array.from({ length: program.length / 8 }, (_, index) => {
    const at = index * 8
    const [whenTrue, otherwise] = [program.readUInt8(at + 2), program.readUInt8(at + 3)]
    return { code: program.readUInt16LE(at), whenTrue, otherwise, value: program.readUInt32LE(at + 4) }
  })
}

/** `struct seccomp_data`: the number, the kind of machine, where it was called from, six arguments. */
function dataOf({ number, audit, request = 0n }: SystemCall): Buffer {
  const data = Buffer.alloc(64)
  data.writeUInt32LE(number >>> 0, 0)
  data.writeUInt32LE(audit, 4)
  // The first argument looks like a request, and is a file descriptor.
  data.writeBigUInt64LE(0x4030582an, 16)
  data.writeBigUInt64LE(request, 24)
  return data
}

/** The instructions that the kernel's own interpreter has for what filters of ours are made of. */
function run(machine: string, call: SystemCall): Verdict {
  const program = instructionsOf(machine)
  const data = dataOf(call)
  let accumulator = 0
  for (let at = 0; at < program.length; at++) {
    const step = program[at]
    if (step === undefined) break
    if (step.code === 0x20) accumulator = data.readUInt32LE(step.value)
    else if (step.code === 0x54) accumulator = (accumulator & step.value) >>> 0
    else if (step.code === 0x15) at += accumulator === step.value ? step.whenTrue : step.otherwise
    else if (step.value === 0x7fff0000) return 'allow'
    else return { errno: step.value - 0x00050000 }
  }
  throw new Error('the program ran past its end')
}

const X86_64 = 0xc000003e
const I386 = 0x40000003
const AARCH64 = 0xc00000b7
const ARM = 0x40000028
const X32 = 0x40000000
const RESVSP64 = 0x4030582an

describe.each(['x64', 'arm64'])('the filter of %s', (machine) => {
  test('is a program that the kernel takes', () => {
    const program = instructionsOf(machine)
    expect(program.length).toBeGreaterThan(0)
    expect(program.length).toBeLessThanOrEqual(4096)
    for (const [at, { code, whenTrue, otherwise, value }] of program.entries()) {
      expect([0x20, 0x54, 0x15, 0x06]).toContain(code)
      if (code === 0x15) expect(at + 1 + Math.max(whenTrue, otherwise)).toBeLessThan(program.length)
      else expect([whenTrue, otherwise]).toEqual([0, 0])
      if (code === 0x20) expect([0, 4, 24]).toContain(value)
    }
    expect(program.at(-1)?.code).toBe(0x06)
  })

  test('refuses every call of a kind of machine that it does not know', () => {
    const known = machine === 'x64' ? [X86_64, I386] : [AARCH64, ARM]
    for (const audit of [X86_64, I386, AARCH64, ARM, 0, 0xc00000f3]) {
      const expected = known.includes(audit) ? 'allow' : { errno: ENOSYS }
      expect(run(machine, { audit, number: 1 })).toEqual(expected)
    }
  })
})

/** `write`, `fallocate` and every `ioctl` of a kind of machine. */
const CALLS: [name: string, machine: string, audit: number, numbers: [number, number, number[]]][] = [
  ['x86-64', 'x64', X86_64, [1, 285, [16]]],
  ['x32', 'x64', X86_64, [X32 | 1, X32 | 285, [X32 | 16, X32 | 514]]],
  ['x32 without its mark, as old kernels took it', 'x64', X86_64, [1, 285, [514]]],
  ['i386', 'x64', I386, [4, 324, [54]]],
  ['AArch64', 'arm64', AARCH64, [64, 47, [29]]],
  ['ARM', 'arm64', ARM, [4, 352, [54]]],
]

describe.each(CALLS)('a program for %s', (_name, machine, audit, [write, fallocate, ioctls]) => {
  test('is not given what reserves disk space, and everything else', () => {
    expect(run(machine, { audit, number: write })).toBe('allow')
    expect(run(machine, { audit, number: fallocate })).toEqual({ errno: EOPNOTSUPP })
    for (const above of [0, 1, 2])
      expect(run(machine, { audit, number: 425 + above })).toEqual(above === 0 ? { errno: ENOSYS } : 'allow')
    for (const number of ioctls) {
      for (const request of reserving()) {
        expect(run(machine, { audit, number, request })).toEqual({ errno: EOPNOTSUPP })
        // The kernel looks at 32 bits of it.
        expect(run(machine, { audit, number, request: request | (1n << 40n) })).toEqual({ errno: EOPNOTSUPP })
        expect(run(machine, { audit, number: write, request })).toBe('allow')
      }
      // TCGETS, FIONREAD, and giving space back.
      for (const request of [0x5401n, 0x541bn, 0x4030582bn])
        expect(run(machine, { audit, number, request })).toBe('allow')
    }
  })
})

/** `_IOW('X', 40 | 42 | 57, struct space_resv)`, which takes 48 bytes, and 44 where 64 bits are not aligned. */
function reserving(): bigint[] {
  return [40n, 42n, 57n].flatMap((number) =>
    [48n, 44n].map((bytes) => (1n << 30n) | (bytes << 16n) | (0x58n << 8n) | number),
  )
}

test('a request that reserves is told by its number alone', () => {
  expect(reserving()).toContain(RESVSP64)
})

const HEADERS = '/usr/include'
/** Where the kernel's own headers name the numbers of a kind of machine. */
const SOURCES: [machine: string, audit: number, file: string, name: string][] = [
  ['arm64', AARCH64, 'asm-generic/unistd.h', 'AUDIT_ARCH_AARCH64'],
  ['x64', X86_64, 'x86_64-linux-gnu/asm/unistd_64.h', 'AUDIT_ARCH_X86_64'],
  ['x64', X86_64, 'x86_64-linux-gnu/asm/unistd_x32.h', 'AUDIT_ARCH_X86_64'],
  ['x64', I386, 'x86_64-linux-gnu/asm/unistd_32.h', 'AUDIT_ARCH_I386'],
]

describe.each(SOURCES)(
  'on %s (%i) the numbers are those of the headers in %s',
  (machine, audit, file, name) => {
    const path = `${HEADERS}/${file}`
    const missing = existsSync(path) ? null : `${path} is not there (linux-libc-dev)`
    test.skipIf(isSkipped(missing))(`of ${name}`, () => {
      const text = readFileSync(path, 'utf8')
      const numberOf = (call: string): number => {
        const [, mark, number] =
          new RegExp(`#define __NR_${call} \\(?(__X32_SYSCALL_BIT \\+ )?(\\d+)`).exec(text) ?? []
        expect(number, call).toBeDefined()
        return Number(number) + (mark === undefined ? 0 : X32)
      }
      expect(run(machine, { audit, number: numberOf('fallocate') })).toEqual({ errno: EOPNOTSUPP })
      expect(run(machine, { audit, number: numberOf('io_uring_setup') })).toEqual({ errno: ENOSYS })
      expect(run(machine, { audit, number: numberOf('ioctl'), request: RESVSP64 })).toEqual({
        errno: EOPNOTSUPP,
      })
      expect(auditOf(name)).toBe(audit)
    })
  },
)

/** The value of `AUDIT_ARCH_…`: a number of ELF with what is said of width and order of bytes. */
function auditOf(name: string): number {
  const text = ['audit', 'elf-em']
    .map((file) => readFileSync(`${HEADERS}/linux/${file}.h`, 'utf8'))
    .join('\n')
  const valueOf = (word: string): number => {
    const value = new RegExp(`#define ${word}\\s+(\\S+)`).exec(text)?.[1] ?? ''
    if (!value.startsWith('(')) return Number(value)
    const parts = value.slice(1, -1).split('|')
    return parts.map(valueOf).reduce((whole, part) => (whole | part) >>> 0, 0)
  }
  return valueOf(name)
}
