/**
 * Owns the only door of the setup phase: a proxy on a unix socket that lets package managers reach the hosts of
 * an allow-list and nothing else. What is asked for with TLS goes through a tunnel and is not seen. What is asked for
 * without it is asked with TLS from here, where the host allows it, and can be kept for the next setup.
 * Invariants: a connection goes to an address that was checked, never to a name that is looked up again; what was
 * refused is kept by name; a silent connection ends; nothing stays open after the proxy is closed.
 * Leaves to others: which hosts are allowed, which addresses are public, telling the run what was refused.
 */
import { chmod, rm } from 'node:fs/promises'
import {
  type ClientRequest,
  createServer,
  type IncomingMessage,
  type RequestOptions,
  request,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http'
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { type Duplex, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { connect as connectTls } from 'node:tls'
import type { JailLog } from './command.ts'
import { type HostPort, matchesHost, parseHostPattern, parseHostPort } from './host-pattern.ts'
import type { PackageCache, Question } from './package-cache.ts'
import { hasEnd, headersOf, isPackageList, passedOn, questionOf, TlsAgent } from './registry-request.ts'

/** The part of the outbound guard that the proxy needs. */
export type CheckHost = (
  host: string,
  port: number,
) => Promise<
  { outcome: 'checked'; addresses: string[]; isListed: boolean } | { outcome: 'refused'; message: string }
>

export interface SetupProxyOptions {
  /** Replaced if it exists. A slot that is given it lets its own uid in. */
  socketPath: string
  /** `host`, `host:port` or `*.suffix`; port 443 unless given. `*.suffix` does not name the suffix itself. */
  allowedHosts: readonly string[]
  /** Finds the addresses of an allowed host, or refuses them. Only a listed host may be asked without TLS. */
  checkHost: CheckHost
  log: JailLog
  /** Keeps what hosts answer, as far as they allow it. */
  cache?: PackageCache
  /** Certificates that hosts are checked by; the system's unless given. */
  ca?: string
  /** Closes the proxy and all that goes through it. */
  signal: AbortSignal
  /** Connects to an allowed host in place of `checkHost`, for example through the operator's own proxy. */
  connect?: (host: string, port: number) => Promise<Socket>
  /** A connection without a byte in either direction for this long is closed; 60 s unless given. */
  idleMs?: number
}

export interface SetupProxy extends AsyncDisposable {
  readonly socketPath: string
  /** Bytes passed in both directions, without what the proxy itself said. */
  readonly bytes: number
  /** `host:port` of every refused request, each once, as in the other lists at most 100. */
  readonly refused: readonly string[]
  /** Answers given from the cache. */
  readonly kept: number
  /** `host:port` of what fell silent before its answer was whole, each once. What goes through a tunnel is not seen. */
  readonly silent: readonly string[]
  /** `host:port` of what was still answering when who had asked went away, each once. */
  readonly unfinished: readonly string[]
}

/** Where npm and pip get their packages unless told otherwise. */
export const PACKAGE_HOSTS: readonly string[] = ['registry.npmjs.org', 'pypi.org', 'files.pythonhosted.org']

const MAX_NAMES = 100
const CONNECT_MS = 10_000
const LISTING_BYTES = 64 * 2 ** 20

/** Why a request does not go out, as the client is told. */
class Refusal extends Error {
  readonly status: 403 | 502 | 504
  constructor(status: 403 | 502 | 504, sentence: string) {
    super(sentence)
    this.status = status
  }
}

/** Listens on the socket. A malformed entry of `allowedHosts` is a `GateError` INVALID_VALUE. */
export async function startSetupProxy(options: SetupProxyOptions): Promise<SetupProxy> {
  const proxy = new AllowListProxy(options)
  await proxy.listen()
  return proxy
}

class AllowListProxy implements SetupProxy {
  readonly socketPath: string
  readonly refused: string[] = []
  readonly silent: string[] = []
  readonly unfinished: string[] = []
  bytes = 0
  kept = 0
  readonly #options: SetupProxyOptions
  readonly #allowed: readonly HostPort[]
  readonly #open = new Set<Duplex>()
  readonly #server = createServer({ headersTimeout: CONNECT_MS })
  readonly #onAbort = (): void => void this.#close()
  readonly #idleMs: number
  readonly #agent: TlsAgent
  #closing: Promise<void> | undefined

  constructor(options: SetupProxyOptions) {
    this.#options = options
    this.socketPath = options.socketPath
    this.#idleMs = options.idleMs ?? 60_000
    this.#allowed = options.allowedHosts.map(parseHostPattern)
    this.#agent = new TlsAgent((host, port) => this.#openTls(host, port))
    this.#server.on('connection', (socket: Duplex) => this.#track(socket))
    this.#server.on('connect', (asked: IncomingMessage, inner: Duplex, first: Buffer) => {
      this.#tunnel(asked, inner, first).catch((error: unknown) => {
        const { status, message } = asRefusal(error)
        const text = `${status} ${STATUS_CODES[status]}`
        inner.end(`HTTP/1.1 ${text}\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n${message}\n`)
      })
    })
    this.#server.on('request', (asked: IncomingMessage, answer: ServerResponse) => {
      this.#forward(asked, answer).catch((error: unknown) => {
        const { status, message } = asRefusal(error)
        if (answer.headersSent) answer.destroy()
        else
          answer.writeHead(status, { 'content-type': 'text/plain', connection: 'close' }).end(`${message}\n`)
      })
    })
  }

  async listen(): Promise<void> {
    await rm(this.socketPath, { force: true })
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(this.socketPath, resolve)
    })
    await chmod(this.socketPath, 0o600)
    this.#options.signal.addEventListener('abort', this.#onAbort, { once: true })
    if (this.#options.signal.aborted) await this.#close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#close()
  }

  #close(): Promise<void> {
    this.#closing ??= (async () => {
      this.#options.signal.removeEventListener('abort', this.#onAbort)
      const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
      for (const stream of this.#open) stream.destroy()
      this.#agent.destroy()
      await closed
      await rm(this.socketPath, { force: true })
    })()
    return this.#closing
  }

  async #tunnel(asked: IncomingMessage, inner: Duplex, first: Buffer): Promise<void> {
    const outer = await this.#connect(asked.url ?? '', parseHostPort(asked.url ?? ''), 'tunnel')
    inner.write('HTTP/1.1 200 Connection established\r\n\r\n')
    if (first.length > 0) inner.unshift(first)
    // The end of either direction is passed on; an error or silence ends both.
    await Promise.all([pipeline(inner, this.#count(), outer), pipeline(outer, this.#count(), inner)]).catch(
      () => undefined,
    )
    outer.destroy()
    inner.destroy()
  }

  async #forward(asked: IncomingMessage, answer: ServerResponse): Promise<void> {
    const url = URL.canParse(asked.url ?? '') ? new URL(asked.url ?? '') : undefined
    const way = this.#wayTo(url)
    const target = this.#allow(asked.url ?? '', way?.target)
    const question = url && questionOf(asked, url)
    const kept = question && (await this.#options.cache?.find(question))
    if (kept !== undefined) {
      this.kept++
      answer.writeHead(200, { 'content-type': kept.type, 'content-length': kept.bytes })
      return pipeline(kept.body, answer)
    }
    const closing = way?.isTls ? {} : { connection: 'close' }
    const options: RequestOptions = {
      method: asked.method ?? 'GET',
      path: `${url?.pathname ?? '/'}${url?.search ?? ''}`,
      headers: { ...(question ? headersOf(question) : passedOn(asked)), host: url?.host ?? '', ...closing },
    }
    const outgoing = way?.isTls
      ? request({ ...options, agent: this.#agent, host: target.host, port: target.port })
      : await this.#requestPlain(options, target)
    const answered = this.#answerTo(outgoing, { asked, answer, name: `${target.host}:${target.port}` })
    const [incoming] = await Promise.all([answered, pipeline(asked, this.#count(), outgoing)])
    await this.#pass(incoming, answer, { question, isTls: way?.isTls ?? false })
  }

  /** Ends a request that its host leaves without an answer, or that nobody waits for any more, and remembers the host. */
  #answerTo(
    outgoing: ClientRequest,
    { asked, answer, name }: { asked: IncomingMessage; answer: ServerResponse; name: string },
  ): Promise<IncomingMessage> {
    // Who asked is silent because the host is: it is told so, and not cut off first.
    asked.socket.setTimeout(0)
    answer.once('close', () => {
      asked.socket.setTimeout(this.#idleMs)
      if (answer.writableFinished) return
      note(this.unfinished, name)
      outgoing.destroy()
    })
    return new Promise((resolve, reject) => {
      outgoing.once('response', resolve)
      outgoing.once('error', reject)
      outgoing.setTimeout(this.#idleMs, () => {
        note(this.silent, name)
        reject(new Refusal(504, `${name} did not answer for ${this.#idleMs / 1000} s.`))
        outgoing.destroy()
      })
    })
  }

  /** A host that is allowed with TLS is asked with TLS, also by who does not say so. */
  #wayTo(url: URL | undefined): { target: HostPort; isTls: boolean } | undefined {
    if (url?.protocol !== 'http:') return undefined
    const plain = parseHostPort(`${url.hostname}:${url.port || '80'}`)
    const secure = url.port === '' ? parseHostPort(`${url.hostname}:443`) : undefined
    const isTls = secure !== undefined && this.#isAllowed(secure) && !(plain && this.#isAllowed(plain))
    const target = isTls ? secure : plain
    return target && { target, isTls }
  }

  async #requestPlain(options: RequestOptions, { host, port }: HostPort): Promise<ClientRequest> {
    const outer = await this.#connect(`${host}:${port}`, { host, port }, 'plain')
    return request({ ...options, createConnection: () => outer })
  }

  async #openTls(host: string, port: number): Promise<Socket> {
    const socket = await this.#connect(`${host}:${port}`, { host, port }, 'tunnel')
    const { ca } = this.#options
    const secure = connectTls({
      socket,
      ...(isIP(host) ? {} : { servername: host }),
      ...(ca === undefined ? {} : { ca }),
    })
    return this.#track(secure)
  }

  /** Passes an answer on and keeps a copy of it, where it was asked for in a way that can be asked again. */
  async #pass(
    incoming: IncomingMessage,
    answer: ServerResponse,
    { question, isTls }: { question: Question | undefined; isTls: boolean },
  ): Promise<void> {
    const { statusCode = 502, headers } = incoming
    const { 'transfer-encoding': _encoding, connection: _connection, ...others } = headers
    const { 'content-length': _length, ...withoutLength } = others
    const { 'content-type': type = '', 'cache-control': cacheControl = '' } = headers
    const isListing = isTls && isPackageList(type)
    const copy =
      question && statusCode === 200 && hasEnd(headers)
        ? await this.#options.cache?.copy(question, { cacheControl, type })
        : undefined
    answer.writeHead(statusCode, isListing ? withoutLength : others)
    const seen = isListing ? this.#withPlainLinks(incoming) : incoming
    const taken = (chunks: AsyncIterable<Buffer>): AsyncIterable<Buffer> => copy?.take(chunks) ?? chunks
    await pipeline(seen, this.#count(), taken, answer)
  }

  /** A list of packages whose links lead through here again, where they can be kept too. */
  async *#withPlainLinks(list: IncomingMessage): AsyncGenerator<Buffer> {
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of list) {
      chunks.push(chunk)
      bytes += chunk.length
      if (bytes > LISTING_BYTES) throw new Refusal(502, 'The list of packages is too long.')
    }
    let text = Buffer.concat(chunks).toString('utf8')
    for (const { host, port } of this.#allowed)
      if (port === 443) text = text.replaceAll(`https://${host}/`, `http://${host}/`)
    yield Buffer.from(text)
  }

  #isAllowed(target: HostPort): boolean {
    return this.#allowed.some((pattern) => matchesHost(pattern, target))
  }

  #allow(asked: string, target: HostPort | undefined): HostPort {
    const name = target === undefined ? asked.slice(0, 255) : `${target.host}:${target.port}`
    if (target !== undefined && this.#isAllowed(target)) return target
    throw this.#refuse(name, `${name} is not on the allow-list of the setup phase.`)
  }

  async #connect(asked: string, to: HostPort | undefined, kind: 'tunnel' | 'plain'): Promise<Socket> {
    const target = this.#allow(asked, to)
    const name = `${target.host}:${target.port}`
    const { connect } = this.#options
    if (connect !== undefined && kind === 'tunnel') {
      return this.#track(await connect(target.host, target.port))
    }
    const checked = await this.#options.checkHost(target.host, target.port)
    if (checked.outcome === 'refused') throw this.#refuse(name, checked.message)
    if (kind === 'plain' && !checked.isListed) {
      throw this.#refuse(name, `${name} may only be reached with TLS.`)
    }
    for (const address of checked.addresses) {
      const socket = await this.#dial(address, target.port)
      if (socket !== undefined) return socket
    }
    throw new Refusal(502, `${name} cannot be reached.`)
  }

  #dial(address: string, port: number): Promise<Socket | undefined> {
    const socket = this.#track(connectTcp({ host: address, port }))
    return new Promise((resolve) => {
      socket.setTimeout(CONNECT_MS)
      socket.once('close', () => resolve(undefined))
      socket.once('connect', () => resolve(socket.setTimeout(this.#idleMs)))
    })
  }

  #refuse(name: string, sentence: string): Refusal {
    note(this.refused, name)
    this.#options.log.info({ host: name }, 'the setup phase asked for a host that is not allowed')
    return new Refusal(403, sentence)
  }

  /** Remembers a stream for closing, and closes it when it stays silent. */
  #track<S extends Duplex>(stream: S): S {
    this.#open.add(stream)
    stream.on('error', () => stream.destroy())
    stream.once('close', () => this.#open.delete(stream))
    if ('setTimeout' in stream && typeof stream.setTimeout === 'function') {
      stream.setTimeout(this.#idleMs, () => stream.destroy())
    }
    if (this.#closing !== undefined) stream.destroy()
    return stream
  }

  #count(): Transform {
    return new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        this.bytes += chunk.length
        done(null, chunk)
      },
    })
  }
}

function note(names: string[], name: string): void {
  if (!names.includes(name) && names.length < MAX_NAMES) names.push(name)
}

const asRefusal = (error: unknown): Refusal =>
  error instanceof Refusal ? error : new Refusal(502, 'The host cannot be reached.')
