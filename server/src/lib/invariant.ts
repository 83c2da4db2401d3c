/** Our own bug: ends the attempt, is logged whole, and reaches the client as INTERNAL_ERROR. */
export class BrokenInvariant extends Error {
  override readonly name = 'BrokenInvariant'
}

export function invariant(condition: unknown, sentence: string): asserts condition {
  if (!condition) throw new BrokenInvariant(sentence)
}

/** Marks a branch that the types say cannot be reached. */
export function unreachable(value: never): never {
  throw new BrokenInvariant(`unexpected value: ${JSON.stringify(value)}`)
}
