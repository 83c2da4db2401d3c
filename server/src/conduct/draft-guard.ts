import { settledLength } from '../lib/likely-secret.ts'
import type { Clean } from '../lib/redact.ts'

/** A longer beginning of what may be a secret is shown as it comes. */
const HELD_CHARACTERS = 4_096

/** Lets draft text through up to where a secret may have begun, because half of one cannot be told from other text. */
export class DraftGuard {
  readonly #clean: Clean
  readonly #show: (text: string) => void
  #held = ''

  constructor(clean: Clean, show: (text: string) => void) {
    this.#clean = clean
    this.#show = show
  }

  take(delta: string): void {
    this.#held += delta
    this.#pass(this.#held.length > HELD_CHARACTERS ? this.#held.length : settledLength(this.#held))
  }

  flush(): void {
    this.#pass(this.#held.length)
  }

  #pass(characters: number): void {
    if (characters === 0) return
    const text = this.#held.slice(0, characters)
    this.#held = this.#held.slice(characters)
    this.#show(this.#clean(text))
  }
}
