import type { GuardedFetch, OutboundRequest } from './guarded-fetch.ts'

const METHODS: readonly string[] = [
  'GET',
  'POST',
  'PUT',
  'PATCH',
  'DELETE',
] satisfies OutboundRequest['method'][]

const isMethod = (text: string): text is OutboundRequest['method'] => METHODS.includes(text)

/** A guarded fetch in the shape of the standard one, for libraries that want that: refusals reject. */
export function asStandardFetch(
  guarded: GuardedFetch['fetch'],
  limits: { timeoutMs: number; maxAnswerBytes: number },
): typeof fetch {
  return async (input, init = {}) => {
    const request = new Request(input, init)
    if (!isMethod(request.method)) throw new TypeError(`${request.method} is not sent to other hosts.`)
    const body = await request.text()
    const answer = await guarded({
      url: request.url,
      method: request.method,
      headers: Object.fromEntries(request.headers),
      ...(body === '' ? {} : { body }),
      signal: request.signal,
      ...limits,
    })
    if (answer.outcome === 'refused') throw new TypeError(answer.message)
    const isEmpty = answer.status === 204 || answer.status === 304
    return new Response(isEmpty ? null : new Uint8Array(answer.body), {
      status: answer.status,
      headers: answer.headers,
    })
  }
}
