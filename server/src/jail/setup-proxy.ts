/**
 * Owns the only door of the setup phase: a proxy on a unix socket that lets package managers reach the hosts of
 * an allow-list and nothing else.
 * Invariants: a connection goes to an address that was checked, never to a name that is looked up again; what was
 * refused is kept by name; a silent connection ends; nothing stays open after the proxy is closed.
 * Leaves to others: which hosts are allowed, which addresses are public, telling the run what was refused.
 */
import { chmod, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { connect as connectTcp, type Socket } from 'node:net'
import { type Duplex, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { JailLog } from './command.ts'
import { type HostPort, matchesHost, parseHostPattern, parseHostPort } from './host-pattern.ts'

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
  /** `host:port` of every refused request, each once, at most 100. */
  readonly refused: readonly string[]
}

/** Where npm and pip get their packages unless told otherwise. */
export const PACKAGE_HOSTS: readonly string[] = ['registry.npmjs.org', 'pypi.org', 'files.pythonhosted.org']

const MAX_REFUSED = 100
const CONNECT_MS = 10_000

/** Why a request does not go out, as the client is told. */
class Refusal extends Error {
  readonly status: 403 | 502
  constructor(status: 403 | 502, sentence: string) {
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
  bytes = 0
  readonly #options: SetupProxyOptions
  readonly #allowed: readonly HostPort[]
  readonly #open = new Set<Duplex>()
  readonly #server = createServer({ headersTimeout: CONNECT_MS })
  readonly #onAbort = (): void => void this.#close()
  readonly #idleMs: number
  #closing: Promise<void> | undefined

  constructor(options: SetupProxyOptions) {
    this.#options = options
    this.socketPath = options.socketPath
    this.#idleMs = options.idleMs ?? 60_000
    this.#allowed = options.allowedHosts.map(parseHostPattern)
    this.#server.on('connection', (socket: Duplex) => this.#track(socket))
    this.#server.on('connect', (asked: IncomingMessage, inner: Duplex, first: Buffer) => {
      this.#tunnel(asked, inner, first).catch((error: unknown) => {
        const { status, message } = asRefusal(error)
        const text = status === 403 ? '403 Forbidden' : '502 Bad Gateway'
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
    const target =
      url?.protocol === 'http:' ? parseHostPort(`${url.hostname}:${url.port || '80'}`) : undefined
    const outer = await this.#connect(url?.host ?? asked.url ?? '', target, 'plain')
    const headers = Object.fromEntries(
      Object.entries(asked.headers).filter(([name]) => !name.startsWith('proxy-') && name !== 'connection'),
    )
    const outgoing = request({
      createConnection: () => outer,
      method: asked.method ?? 'GET',
      path: `${url?.pathname ?? '/'}${url?.search ?? ''}`,
      headers: { ...headers, host: url?.host ?? '', connection: 'close' },
    })
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      outgoing.once('response', resolve)
      outgoing.once('error', reject)
    })
    const [incoming] = await Promise.all([answered, pipeline(asked, this.#count(), outgoing)])
    answer.writeHead(incoming.statusCode ?? 502, incoming.headers)
    await pipeline(incoming, this.#count(), answer)
  }

  async #connect(asked: string, target: HostPort | undefined, kind: 'tunnel' | 'plain'): Promise<Socket> {
    const name = target === undefined ? asked.slice(0, 255) : `${target.host}:${target.port}`
    if (target === undefined || !this.#allowed.some((pattern) => matchesHost(pattern, target))) {
      throw this.#refuse(name, `${name} is not on the allow-list of the setup phase.`)
    }
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
    if (!this.refused.includes(name) && this.refused.length < MAX_REFUSED) this.refused.push(name)
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

const asRefusal = (error: unknown): Refusal =>
  error instanceof Refusal ? error : new Refusal(502, 'The host cannot be reached.')
