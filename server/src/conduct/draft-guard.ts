import type { Clean } from './clean-json.ts'

/** A longer word without an end is shown as it comes. */
const HELD_CHARACTERS = 4_096

/** Lets draft text through word by word, because half a secret cannot be told from other text. */
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
    const end = Math.max(this.#held.lastIndexOf(' '), this.#held.lastIndexOf('\n')) + 1
    this.#pass(this.#held.length > HELD_CHARACTERS ? this.#held.length : end)
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
