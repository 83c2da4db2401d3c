import { Page, type PageFields, PagePromise } from './page.ts'
import type { RequestOptions, Transport } from './transport.ts'

/** What to list. `read` makes an item of what the gate answered. */
export interface ListRequest<Wire, Item> {
  path: string
  query: object
  read: (wire: Wire) => Item
}

/** The pages of a list; each following page is asked for by the cursor of the one before. */
export function listPages<Wire, Item>(
  transport: Transport,
  list: ListRequest<Wire, Item>,
  options: RequestOptions | undefined,
): PagePromise<Item> {
  const { path, query, read } = list
  return new PagePromise(async () => {
    const answer = await transport.json<PageFields<Wire>>({ method: 'GET', path, query }, options)
    const cursor = answer.nextCursor
    const following = { ...list, query: { ...query, offset: undefined, after: cursor } }
    const next = cursor === null ? undefined : () => listPages(transport, following, options)
    return new Page({ ...answer, data: answer.data.map(read) }, next)
  })
}

/** One segment of a path; an id with a slash in it cannot reach another endpoint. */
export function segment(text: string): string {
  if (text === '' || text === '.' || text === '..')
    throw new TypeError(`not an id or name: ${JSON.stringify(text)}`)
  return encodeURIComponent(text)
}
