import { storable } from '../lib/text.ts'

/**
 * Keeps the beginning and the end of a stream of bytes in bounded memory and counts the rest.
 * Holds at most `limit` bytes and one chunk, however much arrives.
 */
export class OutputTail {
  readonly #headLimit: number
  readonly #tailLimit: number
  readonly #head: Buffer[] = []
  #headBytes = 0
  #tail: Buffer[] = []
  #tailBytes = 0
  #total = 0

  constructor(limit: number) {
    this.#headLimit = Math.ceil(limit / 2)
    this.#tailLimit = Math.floor(limit / 2)
  }

  get bytes(): number {
    return this.#total
  }

  get truncated(): boolean {
    return this.#total > this.#headLimit + this.#tailLimit
  }

  push(chunk: Uint8Array): void {
    this.#total += chunk.length
    const room = this.#headLimit - this.#headBytes
    if (room > 0) {
      // A copy, so that a few kept bytes do not hold a whole read buffer.
      const kept = Buffer.from(chunk.subarray(0, room))
      this.#head.push(kept)
      this.#headBytes += kept.length
    }
    if (chunk.length > room) this.#pushTail(chunk.subarray(Math.max(room, 0)))
  }

  #pushTail(chunk: Uint8Array): void {
    const kept = Buffer.from(chunk.subarray(Math.max(0, chunk.length - this.#tailLimit)))
    this.#tail.push(kept)
    this.#tailBytes += kept.length
    // Cut back only when twice the limit is held, so that small chunks cost no copying each.
    if (this.#tailBytes > this.#tailLimit * 2 || this.#tail.length > 1024) this.#compact()
  }

  #compact(): Buffer {
    const all = Buffer.concat(this.#tail)
    const kept = Buffer.from(all.subarray(Math.max(0, all.length - this.#tailLimit)))
    this.#tail = [kept]
    this.#tailBytes = kept.length
    return kept
  }

  /** The kept bytes as storable UTF-8, with a line that says how much was left out. */
  text(): string {
    const head = Buffer.concat(this.#head)
    const tail = this.#compact()
    if (!this.truncated) return storable(Buffer.concat([head, tail]).toString('utf8'))
    const left = this.#total - head.length - tail.length
    return storable(`${head.toString('utf8')}\n[… ${left} bytes left out …]\n${tail.toString('utf8')}`)
  }
}
