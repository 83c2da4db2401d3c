import { createServer, type RequestListener } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { GateError } from '../domain/error.ts'
import { createAddressGuard } from './address-guard.ts'
import { createGuardedFetch, type GuardedFetchOptions, type OutboundRequest } from './guarded-fetch.ts'

const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function listen(server: Server, host = '127.0.0.1'): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, host, resolve))
  const address = server.address() as AddressInfo // a TCP server that listens has one
  return address.port
}

async function receiver(answer: RequestListener): Promise<{ port: number; calls: () => number }> {
  let calls = 0
  const server = createServer((request, response) => {
    calls += 1
    answer(request, response)
  })
  const port = await listen(server)
  cleanups.push(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  return { port, calls: () => calls }
}

function outbound(options: Partial<GuardedFetchOptions> = {}) {
  const guarded = createGuardedFetch({
    allowedPrivateRanges: ['127.0.0.0/8'],
    connectTimeoutMs: 2_000,
    ...options,
  })
  cleanups.push(() => guarded.close())
  return (url: string, request: Partial<OutboundRequest> = {}) =>
    guarded.fetch({ url, method: 'GET', timeoutMs: 5_000, maxAnswerBytes: 1_000, ...request })
}

const LOOPBACK_SPELLINGS = [
  '127.0.0.1',
  '127.1',
  '0x7f.1',
  '0x7f000001',
  '2130706433',
  '0177.0.0.1',
  '127.0.0.1.',
  '0',
  'localhost',
  '[::1]',
  '[::]',
  '[::ffff:127.0.0.1]',
  '[::ffff:7f00:1]',
  '[::127.0.0.1]',
  '[64:ff9b::127.0.0.1]',
  '[2002:7f00:1::]',
]

describe('which addresses may be reached', () => {
  test.each(LOOPBACK_SPELLINGS)('%s is refused, whatever it calls this machine', async (host) => {
    const { port, calls } = await receiver((_request, response) => response.end('secret'))
    const fetch = outbound({ allowedPrivateRanges: [] })

    const answers = [await fetch(`http://${host}:${port}/`), await fetch(`https://${host}:${port}/`)]

    expect(answers).toMatchObject([
      { outcome: 'refused', reason: 'address' },
      { outcome: 'refused', reason: 'address' },
    ])
    expect(calls()).toBe(0)
  })

  test.each([
    '10.1.2.3',
    '172.31.255.1',
    '192.168.0.1',
    '169.254.169.254',
    '100.64.0.1',
    '0.0.0.0',
    '224.0.0.1',
    '255.255.255.255',
    '192.0.2.1',
    'fe80::1',
    'fe80::1%eth0',
    'fc00::1',
    'fec0::1',
    'ff02::1',
    '::ffff:10.0.0.1',
    '64:ff9b::10.0.0.1',
    '64:ff9b:1::8.8.8.8',
    '2001:0:4136:e378:8000:63bf:3fff:fdd2',
    '2002:0a00:0001::1',
  ])('a name that leads to %s is refused', async (address) => {
    const guard = createAddressGuard([], async () => [address])

    expect(await guard.checkHost('example.org', 443)).toMatchObject({ outcome: 'refused', reason: 'address' })
  })

  test.each(['8.8.8.8', '2606:4700::1111', '64:ff9b::8.8.8.8', '2002:808:808::1', '::ffff:8.8.8.8'])(
    'a name that leads to %s is public',
    async (address) => {
      const guard = createAddressGuard([], async () => [address])

      expect(await guard.checkHost('example.org', 443)).toMatchObject({ outcome: 'checked', isListed: false })
    },
  )

  test('one private address among public ones refuses the name', async () => {
    const guard = createAddressGuard([], async () => ['8.8.8.8', '10.0.0.1'])

    expect(await guard.checkHost('rebinding.example', 443)).toMatchObject({ reason: 'address' })
  })

  test('of a name with listed and other addresses only the listed ones are used', async () => {
    const guard = createAddressGuard(['127.0.0.0/8'], async () => ['::1', '127.0.0.1', '8.8.8.8'])

    expect(await guard.checkHost('localhost', 80)).toEqual({
      outcome: 'checked',
      addresses: ['127.0.0.1'],
      isListed: true,
    })
  })

  test.each([
    ['127.0.0.0/8', '127.0.0.1', 8080, true],
    ['127.0.0.0/8:8080', '127.0.0.1', 8080, true],
    ['127.0.0.0/8:8080', '127.0.0.1', 8081, false],
    ['127.0.0.0/8', '::ffff:127.0.0.1', 80, true],
    ['127.0.0.0/8', '64:ff9b::127.0.0.1', 80, false],
    ['[fd00::]/8:443', 'fd12::1', 443, true],
    ['fd00::/8', 'fe80::1', 443, false],
    ['127.0.0.1:4000', '127.1', 4000, true],
    ['[::1]:4000', '::1', 4000, true],
    ['127.0.0.1:4000', '127.0.0.2', 4000, false],
    ['git.internal:3000', 'git.internal', 3000, true],
    ['git.internal:3000', 'git.internal', 22, false],
    ['git.internal:3000', 'other.internal', 3000, false],
  ])('the entry %s for %s on port %i: %s', async (entry, host, port, isListed) => {
    const guard = createAddressGuard([entry], async () => ['10.0.0.9'])

    expect(await guard.checkHost(host, port)).toMatchObject({ outcome: isListed ? 'checked' : 'refused' })
  })

  test.each([
    '',
    '127.0.0.1',
    'localhost',
    '10.0.0.0/33',
    '10.0.0.0/8:0',
    '10.0.0.0/8:65536',
    'a b:80',
    'u@h:80',
  ])('the entry "%s" is a configuration mistake', (entry) => {
    expect(() => createAddressGuard([entry])).toThrow(GateError)
  })

  test.each(['', 'a/b', 'user@host', 'host:22', 'a b', 'host#', 'a\\b', '[::1'])(
    '"%s" is not taken for a host',
    async (host) => {
      const guard = createAddressGuard(['127.0.0.0/8'], async () => ['127.0.0.1'])

      expect(await guard.checkHost(host, 22)).toMatchObject({ outcome: 'refused', reason: 'address' })
    },
  )

  test.each(['ftp://example.org/', 'file:///etc/passwd', 'not a url', 'https://user:secret@example.org/'])(
    'the URL %s is refused before any look-up',
    async (url) => {
      const fetch = outbound({ resolve: () => Promise.reject(new Error('looked up')) })

      const answer = await fetch(url)

      expect(answer).toMatchObject({ outcome: 'refused', reason: 'scheme' })
      expect(JSON.stringify(answer)).not.toContain('secret')
    },
  )

  test('plain http goes to listed addresses only', async () => {
    const fetch = outbound({ resolve: async () => ['8.8.8.8'] })

    expect(await fetch('http://example.org/')).toMatchObject({ outcome: 'refused', reason: 'scheme' })
  })

  test('a name without an address is a network failure', async () => {
    const fetch = outbound({ resolve: () => Promise.reject(new Error('ENOTFOUND')) })

    expect(await fetch('https://nowhere.example/')).toMatchObject({ outcome: 'refused', reason: 'network' })
  })
})

describe('the exchange', () => {
  test('the request arrives as given, at the checked address, under the name asked for', async () => {
    const { port } = await receiver((request, response) => {
      request.setEncoding('utf8').on('data', (body: string) => {
        response.setHeader('X-Two', ['a', 'b'])
        response.end(
          `${request.method} ${request.url} ${request.headers.host} ${String(request.headers['x-one'])} ${body}`,
        )
      })
    })
    const fetch = outbound({ resolve: async () => ['127.0.0.1'] })

    const answer = await fetch(`http://hooks.example:${port}/in?a=1`, {
      method: 'POST',
      headers: { 'X-One': '1' },
      body: 'hello',
    })

    expect(answer).toMatchObject({ outcome: 'answered', status: 200, headers: { 'x-two': 'a, b' } })
    expect(answer.outcome === 'answered' && answer.body.toString()).toBe(
      `POST /in?a=1 hooks.example:${port} 1 hello`,
    )
  })

  test('the name is resolved and checked again for every request', async () => {
    const { port, calls } = await receiver((_request, response) => response.end())
    const addresses = ['127.0.0.1', '127.0.0.1', '127.0.0.1', '10.0.0.1']
    const fetch = outbound({ resolve: async () => [addresses.shift() ?? ''] })
    const url = `http://rebinding.example:${port}/`

    for (let i = 0; i < 3; i++) expect(await fetch(url)).toMatchObject({ status: 200 })
    expect(await fetch(url)).toMatchObject({ reason: 'address' })
    expect(calls()).toBe(3)
  })

  test('the next address is tried when one refuses the connection', async () => {
    const { port } = await receiver((_request, response) => response.end())
    const fetch = outbound({ resolve: async () => ['127.0.0.2', '127.0.0.1'] })

    expect(await fetch(`http://two.example:${port}/`)).toMatchObject({ outcome: 'answered', status: 200 })
  })

  test.each([301, 302, 303, 307, 308])('a %i is not followed', async (status) => {
    const target = await receiver((_request, response) => response.end())
    const { port } = await receiver((_request, response) =>
      response.writeHead(status, { location: `http://127.0.0.1:${target.port}/` }).end(),
    )

    expect(await outbound()(`http://127.0.0.1:${port}/`)).toMatchObject({ reason: 'redirect', status })
    expect(target.calls()).toBe(0)
  })

  test('a huge answer is refused, or cut where the caller only wants its beginning', async () => {
    const { port } = await receiver((_request, response) => {
      const pour = (): void => {
        while (response.write('x'.repeat(10_000)));
      }
      response.on('drain', pour)
      pour()
    })
    const fetch = outbound()

    expect(await fetch(`http://127.0.0.1:${port}/`)).toMatchObject({ reason: 'too_large', status: 200 })
    const cut = await fetch(`http://127.0.0.1:${port}/`, { excess: 'cut' })
    expect(cut.outcome === 'answered' && cut.body.length).toBe(1_000)
  })

  test('an answer of exactly the limit is taken', async () => {
    const { port } = await receiver((_request, response) => response.end('x'.repeat(1_000)))

    expect(await outbound()(`http://127.0.0.1:${port}/`)).toMatchObject({ outcome: 'answered' })
  })

  test('huge headers are refused', async () => {
    const { port } = await receiver((_request, response) =>
      response.writeHead(200, { 'x-long': 'x'.repeat(100_000) }).end(),
    )

    expect(await outbound()(`http://127.0.0.1:${port}/`)).toMatchObject({ reason: 'too_large' })
  })

  test('an answer that never begins or never ends is over at the time limit', async () => {
    const silent = await receiver(() => undefined)
    const slow = await receiver((_request, response) => {
      response.write('a')
    })
    const fetch = outbound()

    for (const { port } of [silent, slow]) {
      expect(await fetch(`http://127.0.0.1:${port}/`, { timeoutMs: 100 })).toMatchObject({
        reason: 'timeout',
      })
    }
  })

  test('a TLS handshake that hangs is over at the connect limit', async () => {
    const server = createTcpServer((socket) => {
      socket.on('error', () => undefined)
      cleanups.push(async () => socket.destroy())
    })
    const port = await listen(server)
    cleanups.push(() => new Promise((resolve) => server.close(resolve)))
    const fetch = outbound({ connectTimeoutMs: 200 })

    expect(await fetch(`https://127.0.0.1:${port}/`)).toMatchObject({ reason: 'timeout' })
  })

  test('a name look-up that hangs is over at either limit', async () => {
    const fetch = outbound({ connectTimeoutMs: 300, resolve: () => new Promise(() => undefined) })

    expect(await fetch('https://slow.example/', { timeoutMs: 100 })).toMatchObject({ reason: 'timeout' })
    expect(await fetch('https://slow.example/')).toMatchObject({ reason: 'timeout' })
  })

  test('nobody listening, garbage and a caller who gives up are network failures', async () => {
    const garbage = createTcpServer((socket) => {
      socket.on('error', () => undefined)
      socket.resume().end('this is not HTTP\r\n\r\n')
    })
    const garbagePort = await listen(garbage)
    const closed = createTcpServer()
    const closedPort = await listen(closed)
    await new Promise((resolve) => closed.close(resolve))
    cleanups.push(() => new Promise((resolve) => garbage.close(resolve)))
    const fetch = outbound()

    expect(await fetch(`http://127.0.0.1:${closedPort}/`)).toMatchObject({ reason: 'network' })
    expect(await fetch(`http://127.0.0.1:${garbagePort}/`)).toMatchObject({ reason: 'network' })
    expect(await fetch(`http://127.0.0.1:${garbagePort}/`, { signal: AbortSignal.abort() })).toMatchObject({
      reason: 'network',
    })
  })
})
