import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { createServer, type RequestListener, request, type Server } from 'node:http'
import { connect, createServer as createTcpServer, type Socket, type Server as TcpServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { GateError } from '../domain/error.ts'
import { type JailFixture, openFixture, openFolder, silentLog } from './jail-fixture.ts'
import { type SetupProxyOptions, startSetupProxy } from './setup-proxy.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

async function listen(server: Server | TcpServer): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanups.push(() => {
    if ('closeAllConnections' in server) server.closeAllConnections()
    return new Promise((resolve) => server.close(resolve))
  })
  const address = server.address()
  return typeof address === 'object' ? (address?.port ?? 0) : 0
}

/** Names under `.test` are this machine and listed by the operator; under `.private` they are and are not. */
const checkHost: SetupProxyOptions['checkHost'] = async (host) =>
  host.endsWith('.private')
    ? { outcome: 'refused', message: `The address of ${host} is not public.` }
    : { outcome: 'checked', addresses: ['127.0.0.1'], isListed: host.endsWith('.test') }

async function startProxy(options: Partial<SetupProxyOptions>) {
  const folder = openFolder()
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }))
  const proxy = await startSetupProxy({
    socketPath: join(folder, 'proxy.sock'),
    allowedHosts: [],
    checkHost,
    log: silentLog,
    signal: new AbortController().signal,
    ...options,
  })
  cleanups.push(() => proxy[Symbol.asyncDispose]())
  return proxy
}

/** Asks for a tunnel; gives the status line's code and the open socket. */
async function tunnel(socketPath: string, target: string): Promise<{ status: number; socket: Socket }> {
  const asked = request({ socketPath, method: 'CONNECT', path: target })
  asked.end()
  const [response, socket] = await once(asked, 'connect')
  cleanups.push(() => socket.destroy())
  return { status: response.statusCode, socket }
}

const echo = (): TcpServer => createTcpServer((socket) => socket.pipe(socket))

describe('the proxy of the setup phase', () => {
  test('carries bytes to an allowed host and counts them', async () => {
    const port = await listen(echo())
    const proxy = await startProxy({ allowedHosts: [`registry.test:${port}`] })

    const { status, socket } = await tunnel(proxy.socketPath, `registry.test:${port}`)
    socket.write('hello')
    const [answer] = await once(socket, 'data')

    expect([status, String(answer), proxy.bytes]).toEqual([200, 'hello', 10])
    expect(proxy.refused).toEqual([])
  })

  test.each([
    'other.test:443',
    'registry.test:22',
    'registry.test.evil.example:443',
    'evilregistry.test:443',
    'packages.test:443',
    '127.0.0.1:443',
    '[::1]:443',
    'registry.test',
    'a@registry.test:443',
  ])('refuses %s and remembers it', async (target) => {
    const proxy = await startProxy({ allowedHosts: ['registry.test', '*.packages.test'] })

    const { status } = await tunnel(proxy.socketPath, target)
    await tunnel(proxy.socketPath, target)

    expect(status).toBe(403)
    expect(proxy.refused).toEqual([target.replaceAll(/[[\]]/g, '')])
  })

  test('refuses an allowed host whose address is private', async () => {
    const proxy = await startProxy({ allowedHosts: ['registry.private'] })

    expect((await tunnel(proxy.socketPath, 'registry.private:443')).status).toBe(403)
    expect(proxy.refused).toEqual(['registry.private:443'])
  })

  test('connects through the way the operator gives', async () => {
    const port = await listen(echo())
    const asked: string[] = []
    const proxy = await startProxy({
      allowedHosts: ['*.packages.example'],
      connect: async (host, to) => {
        asked.push(`${host}:${to}`)
        return connect(port, '127.0.0.1')
      },
    })

    expect((await tunnel(proxy.socketPath, 'a.packages.example:443')).status).toBe(200)
    expect(asked).toEqual(['a.packages.example:443'])
  })

  test('says so when an allowed host is down', async () => {
    const proxy = await startProxy({ allowedHosts: ['registry.test:1'] })

    expect((await tunnel(proxy.socketPath, 'registry.test:1')).status).toBe(502)
    expect(proxy.refused).toEqual([])
  })

  test('ends a connection that stays silent', async () => {
    const port = await listen(echo())
    const proxy = await startProxy({ allowedHosts: [`registry.test:${port}`], idleMs: 50 })

    const { socket } = await tunnel(proxy.socketPath, `registry.test:${port}`)
    socket.resume()

    await once(socket, 'close')
  })

  test('ends all connections with its signal', async () => {
    const port = await listen(echo())
    const closing = new AbortController()
    const proxy = await startProxy({ allowedHosts: [`registry.test:${port}`], signal: closing.signal })

    const { socket } = await tunnel(proxy.socketPath, `registry.test:${port}`)
    socket.resume()
    closing.abort()

    await once(socket, 'close')
  })

  test('asks a host without TLS only when the operator listed its address', async () => {
    const port = await listen(createServer((_, answer) => answer.end('plain')))
    const allowedHosts = [`registry.test:${port}`, `registry.example:${port}`]
    const proxy = await startProxy({ allowedHosts })
    const ask = async (host: string) => {
      const asked = request({ socketPath: proxy.socketPath, path: `http://${host}:${port}/a?b` })
      asked.end()
      const [answer] = await once(asked, 'response')
      const body = (await answer.setEncoding('utf8').toArray()).join('')
      return [answer.statusCode, body]
    }

    expect(await ask('registry.test')).toEqual([200, 'plain'])
    expect(await ask('registry.example')).toEqual([403, expect.stringContaining('TLS')])
    expect(await ask('other.test')).toEqual([403, expect.stringContaining('allow-list')])
  })

  test('does not start with an entry that is not a host', async () => {
    await expect(startProxy({ allowedHosts: ['https://registry.test/'] })).rejects.toThrow(GateError)
  })
})

describe('a command in its setup phase', () => {
  test('installs a package from an allowed registry, with no other way out', async () => {
    await using jail = await openFixture()
    const port = await listen(createServer(registry(await packTiny(jail))))
    const proxy = await startProxy({
      socketPath: join(jail.root, 'p.sock'),
      allowedHosts: [`registry.test:${port}`],
    })
    const env = { npm_config_registry: `http://registry.test:${port}/`, npm_config_audit: 'false' }
    const setup = { network: { proxySocket: proxy.socketPath }, env }

    const installed = await jail.sh('npm install tiny --no-fund && cat node_modules/tiny/index.js', setup)
    const refused = await jail.sh('npm view tiny --registry http://other.test/', setup)
    const without = await jail.sh('ls /run/agentgate; env | grep -ci proxy')

    expect(installed.output).toContain('added 1 package')
    expect(installed).toMatchObject({ outcome: 'exited', exitCode: 0 })
    expect(installed.output).toContain('// tiny')
    expect(refused.output).toContain('403')
    expect(proxy.refused).toEqual(['other.test:80'])
    expect(without.output).toMatch(/No such file or directory\n0\n$/)
  })

  test('ends as its command ends', async () => {
    await using jail = await openFixture()
    const proxy = await startProxy({ socketPath: join(jail.root, 'p.sock') })
    const network = { proxySocket: proxy.socketPath }

    expect(await jail.sh('cat; exit 5', { network, stdin: 'in' })).toMatchObject({
      exitCode: 5,
      output: 'in',
    })
    expect(await jail.sh('kill -9 $$', { network })).toMatchObject({ outcome: 'signaled', signal: 'SIGKILL' })
    expect(await jail.sh('', { network, argv: ['no-such'] })).toMatchObject({
      outcome: 'exited',
      exitCode: 127,
    })
  })
})

async function packTiny(jail: JailFixture): Promise<Buffer> {
  const packed = await jail.sh(`mkdir -p /tmp/package; cd /tmp
    echo '{"name":"tiny","version":"1.0.0"}' > package/package.json; echo '// tiny' > package/index.js
    tar czf - package | base64 -w0`)
  return Buffer.from(packed.output, 'base64')
}

/** A registry with one package. */
function registry(tarball: Buffer): RequestListener {
  return (asked, answer) => {
    if (asked.url?.endsWith('.tgz')) return answer.end(tarball)
    const dist = { tarball: `http://${asked.headers.host}/tiny.tgz` }
    const versions = { '1.0.0': { name: 'tiny', version: '1.0.0', dist } }
    answer.setHeader('content-type', 'application/json')
    return answer.end(JSON.stringify({ name: 'tiny', 'dist-tags': { latest: '1.0.0' }, versions }))
  }
}
