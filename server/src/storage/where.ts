/** Conditions of one statement. `?` stands for the next value. */
export class Where {
  readonly #conditions: string[] = []
  readonly values: unknown[] = []

  and(condition: string, ...values: unknown[]): this {
    const rest = [...values]
    this.#conditions.push(condition.replaceAll('?', () => this.bind(rest.shift())))
    return this
  }

  /** The parameter that stands for `value`. */
  bind(value: unknown): string {
    this.values.push(value)
    return `$${this.values.length}`
  }

  get sql(): string {
    return this.#conditions.join(' and ')
  }
}
