import { constants } from 'node:os'

/**
 * The system calls that reserve disk space without writing it: `fallocate` and its forms as an `ioctl`, and
 * `io_uring`, through which it could be asked for as well. A watch that looks every few milliseconds would come too
 * late for them. Programs take the answer for a file system that cannot do it, and write instead.
 */

interface Architecture {
  /** AUDIT_ARCH_… */
  audit: number
  fallocate: number
  ioctl: readonly number[]
}

/** The x32 ABI has an `ioctl` of its own, 514. */
const X86_64: Architecture = { audit: 0xc000003e, fallocate: 285, ioctl: [16, 514] }
const I386: Architecture = { audit: 0x40000003, fallocate: 324, ioctl: [54] }
const AARCH64: Architecture = { audit: 0xc00000b7, fallocate: 47, ioctl: [29] }
const ARM: Architecture = { audit: 0x40000028, fallocate: 352, ioctl: [54] }

/** Each kind of machine with the older one whose programs it runs too. */
const MACHINES: Readonly<Record<string, readonly Architecture[]>> = {
  x64: [X86_64, I386],
  arm64: [AARCH64, ARM],
}

const IO_URING_SETUP = 425
/** FS_IOC_RESVSP, FS_IOC_RESVSP64 and FS_IOC_ZERO_RANGE, of 64 and of 32 bits. */
const RESERVING = [0x40305828, 0x4030582a, 0x40305839, 0x402c5828, 0x402c582a, 0x402c5839]
/** Numbers of the x32 ABI have this bit too; most are those of x86-64. */
const WITHOUT_X32 = 0xbfffffff

// Classic BPF, as in linux/filter.h and linux/seccomp.h.
const LOAD = 0x20
const AND = 0x54
const JUMP_IF_EQUAL = 0x15
const RETURN = 0x06
const NUMBER = 0
const ARCHITECTURE = 4
const SECOND_ARGUMENT = 24
const ALLOW = 0x7fff0000
const fail = (errno: number): number => 0x00050000 | errno

/** A program for bwrap's `--seccomp`; nothing on a kind of machine that it is not known for. */
export function syscallFilter(machine: string = process.arch): Buffer | undefined {
  const known = MACHINES[machine]
  if (known === undefined) return undefined
  return Buffer.concat([
    instruction(LOAD, ARCHITECTURE),
    ...known.flatMap(({ audit, ...numbers }) => unless(audit, rulesOf(numbers))),
    instruction(RETURN, fail(constants.errno.ENOSYS)),
  ])
}

const rulesOf = ({ fallocate, ioctl }: Omit<Architecture, 'audit'>): Buffer[] => [
  instruction(LOAD, NUMBER),
  instruction(AND, WITHOUT_X32),
  ...refuse(fallocate, constants.errno.EOPNOTSUPP),
  ...refuse(IO_URING_SETUP, constants.errno.ENOSYS),
  ...ioctl.flatMap((number) => unless(number, requestRules())),
  instruction(RETURN, ALLOW),
]

const requestRules = (): Buffer[] => [
  instruction(LOAD, SECOND_ARGUMENT),
  ...RESERVING.flatMap((request) => refuse(request, constants.errno.EOPNOTSUPP)),
  instruction(RETURN, ALLOW),
]

const refuse = (value: number, errno: number): Buffer[] => unless(value, [instruction(RETURN, fail(errno))])

/** Instructions that are passed over unless the loaded word has this value. */
const unless = (value: number, then: readonly Buffer[]): Buffer[] => [
  instruction(JUMP_IF_EQUAL, value, { otherwise: then.length }),
  ...then,
]

function instruction(code: number, value: number, { otherwise = 0 } = {}): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt16LE(code, 0)
  bytes.writeUInt8(otherwise, 3)
  bytes.writeUInt32LE(value >>> 0, 4)
  return bytes
}
