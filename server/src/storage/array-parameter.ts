/**
 * Arrays as PostgreSQL takes them in binary (`array_recv`): no quoting here, no parsing there. The driver sends a
 * Buffer as a binary parameter, so each of these needs its cast in the statement: `$1::text[]`.
 */
const TEXT = 25
const INT4 = 23
const INT8 = 20
const BOOL = 16
const FLOAT8 = 701
const TIMESTAMPTZ = 1184

const HEADER_BYTES = 20
/** 2000-01-01, from which PostgreSQL counts microseconds. */
const POSTGRES_EPOCH_MS = 946_684_800_000

/** An empty array has no dimension, and the same bytes for every type but its oid. */
function allocate(oid: number, members: number, bytes: number): Buffer {
  const buffer = Buffer.allocUnsafe((members === 0 ? 12 : HEADER_BYTES) + bytes)
  buffer.writeInt32BE(members === 0 ? 0 : 1, 0)
  buffer.writeInt32BE(1, 4)
  buffer.writeInt32BE(oid, 8)
  if (members === 0) return buffer
  buffer.writeInt32BE(members, 12)
  buffer.writeInt32BE(1, 16)
  return buffer
}

export function textArray(values: readonly (string | null)[]): Buffer {
  let bytes = 0
  const lengths = values.map((value) => {
    const length = value === null ? 0 : Buffer.byteLength(value)
    bytes += 4 + length
    return length
  })
  const buffer = allocate(TEXT, values.length, bytes)
  let at = HEADER_BYTES
  for (const [i, value] of values.entries()) {
    const length = lengths[i] ?? 0
    buffer.writeInt32BE(value === null ? -1 : length, at)
    at += 4
    if (value !== null) buffer.write(value, at, length, 'utf8')
    at += length
  }
  return buffer
}

type Write = (buffer: Buffer, at: number) => void

/** Members of one size; `null` members are sent without bytes. */
function fixedArray<V>(
  oid: number,
  size: number,
  values: readonly (V | null)[],
  write: (value: V) => Write,
): Buffer {
  const present = values.reduce<number>((count, value) => (value === null ? count : count + 1), 0)
  const buffer = allocate(oid, values.length, 4 * values.length + size * present)
  let at = HEADER_BYTES
  for (const value of values) {
    buffer.writeInt32BE(value === null ? -1 : size, at)
    at += 4
    if (value === null) continue
    write(value)(buffer, at)
    at += size
  }
  return buffer
}

export const int4Array = (values: readonly number[]): Buffer =>
  fixedArray(INT4, 4, values, (value) => (buffer, at) => buffer.writeInt32BE(value, at))

export const int8Array = (values: readonly (number | bigint)[]): Buffer =>
  fixedArray(INT8, 8, values, (value) => (buffer, at) => buffer.writeBigInt64BE(BigInt(value), at))

export const float8Array = (values: readonly number[]): Buffer =>
  fixedArray(FLOAT8, 8, values, (value) => (buffer, at) => buffer.writeDoubleBE(value, at))

export const boolArray = (values: readonly boolean[]): Buffer =>
  fixedArray(BOOL, 1, values, (value) => (buffer, at) => buffer.writeUInt8(value ? 1 : 0, at))

export const timestampArray = (values: readonly (Date | null)[]): Buffer =>
  fixedArray(
    TIMESTAMPTZ,
    8,
    values,
    (value) => (buffer, at) =>
      buffer.writeBigInt64BE(BigInt(value.getTime() - POSTGRES_EPOCH_MS) * 1000n, at),
  )
