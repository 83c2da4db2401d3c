/** What the gate answers to a list request. `total` is absent from pages reached by a cursor. */
export interface PageFields<T> {
  data: T[]
  nextCursor: string | null
  total?: number
  totalCapped?: boolean
}

/** One page of a list. Iterating it with `for await` goes on through all pages after it. */
export class Page<T> implements AsyncIterable<T> {
  readonly data: T[]
  readonly nextCursor: string | null
  /** How many there are in all; exact up to 10,000, after which `totalCapped` is true. */
  readonly total: number | undefined
  readonly totalCapped: boolean
  readonly #next: (() => PagePromise<T>) | undefined

  constructor(fields: PageFields<T>, next: (() => PagePromise<T>) | undefined) {
    this.data = fields.data
    this.nextCursor = fields.nextCursor
    this.total = fields.total
    this.totalCapped = fields.totalCapped ?? false
    this.#next = next
  }

  hasNextPage(): boolean {
    return this.#next !== undefined
  }

  /** The next page, or undefined after the last. */
  async getNextPage(): Promise<Page<T> | undefined> {
    return this.#next?.()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    yield* this.data
    for (let page = await this.getNextPage(); page; page = await page.getNextPage()) yield* page.data
  }
}

/** The first page when awaited, every item when iterated with `for await`. The request is sent at first use. */
export class PagePromise<T> implements Promise<Page<T>>, AsyncIterable<T> {
  readonly [Symbol.toStringTag] = 'PagePromise'
  readonly #load: () => Promise<Page<T>>
  #page: Promise<Page<T>> | undefined

  constructor(load: () => Promise<Page<T>>) {
    this.#load = load
  }

  // oxlint-disable-next-line unicorn/no-thenable -- awaiting a list gives its first page
  then<A = Page<T>, B = never>(
    onPage?: ((page: Page<T>) => A | PromiseLike<A>) | null,
    onError?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#first().then(onPage, onError)
  }

  catch<B = never>(onError?: ((error: unknown) => B | PromiseLike<B>) | null): Promise<Page<T> | B> {
    return this.#first().catch(onError)
  }

  finally(onDone?: (() => void) | null): Promise<Page<T>> {
    return this.#first().finally(onDone)
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    yield* await this.#first()
  }

  #first(): Promise<Page<T>> {
    this.#page ??= this.#load()
    return this.#page
  }
}
