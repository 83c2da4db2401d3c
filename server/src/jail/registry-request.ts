import { Agent, type ClientRequestArgs, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Question } from './package-cache.ts'

/** With these an answer may depend on more than its address, or be a part of one. */
const SPECIAL_HEADERS = ['authorization', 'cookie', 'range']

/** Whether a content type is one in which an index of Python packages lists them. */
export const isPackageList = (type: string): boolean =>
  /^(text\/html|application\/vnd\.pypi\.simple)/i.test(type)

/** Keeps connections open that are made as the proxy makes them. */
export class TlsAgent extends Agent {
  readonly #open: (host: string, port: number) => Promise<Socket>

  constructor(open: (host: string, port: number) => Promise<Socket>) {
    super({ keepAlive: true, maxSockets: 16 })
    this.#open = open
  }

  override createConnection(
    { host, port }: ClientRequestArgs,
    done: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    // Node takes an error without a stream, which its types do not say.
    const fail = done as (error: Error) => void
    this.#open(host ?? '', Number(port)).then((socket) => done(null, socket), fail)
    return undefined
  }
}

/** What a request asks for, when everybody who asks gets the same. */
export function questionOf({ method, headers }: IncomingMessage, url: URL): Question | undefined {
  if (method !== 'GET' || SPECIAL_HEADERS.some((name) => headers[name] !== undefined)) return undefined
  return { url: `${url.origin}${url.pathname}${url.search}`, accept: headers.accept ?? '*/*' }
}

/** Nothing that the answer is not kept by may change it. */
export const headersOf = ({ accept }: Question): Record<string, string> => ({
  accept,
  'accept-encoding': 'identity',
})

/** Whether an answer that was cut off can be told from a whole one. */
export const hasEnd = (headers: IncomingMessage['headers']): boolean =>
  headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined

export const passedOn = ({ headers }: IncomingMessage): IncomingMessage['headers'] =>
  Object.fromEntries(
    Object.entries(headers).filter(([name]) => !name.startsWith('proxy-') && name !== 'connection'),
  )
