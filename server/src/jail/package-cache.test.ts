import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, rmSync, statSync, utimesSync } from 'node:fs'
import { type IncomingMessage, request, type ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { openFolder, silentLog } from './jail-fixture.ts'
import { PackageCache } from './package-cache.ts'
import { type SetupProxyOptions, startSetupProxy } from './setup-proxy.ts'

const HOST = 'registry.test'
const KEEP = { 'cache-control': 'public, max-age=300' }

let folder: string
let certificate: { key: Buffer; cert: Buffer }
beforeAll(() => {
  folder = openFolder()
  const file = (name: string): string => join(folder, name)
  const subject = ['-subj', `/CN=${HOST}`, '-addext', `subjectAltName=DNS:${HOST}`]
  const made = ['-keyout', file('key'), '-out', file('cert'), '-days', '2']
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...made, ...subject], {
    stdio: 'ignore',
  })
  certificate = { key: readFileSync(file('key')), cert: readFileSync(file('cert')) }
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

let asked: string[]
let root: string
let answerWith: (request: IncomingMessage, response: ServerResponse) => void
const cleanups: (() => unknown)[] = []
beforeEach(() => {
  asked = []
  root = openFolder()
  answerWith = (_asked, answer) => answer.writeHead(200, KEEP).end('honest')
  cleanups.push(() => rmSync(root, { recursive: true, force: true }))
})
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

const cacheOf = (sharedBy = 'us', maxBytes = 2 ** 30): PackageCache =>
  new PackageCache({ root: join(root, 'packages'), sharedBy, maxBytes })

/** A proxy whose allowed host is a TLS server of this test, on port 443 as far as the proxy knows. */
async function startProxy(options: Partial<SetupProxyOptions> = {}) {
  const server = createServer(certificate, (question, answer) => {
    asked.push(`${question.method} ${question.url}`)
    answerWith(question, answer)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const proxy = await startSetupProxy({
    socketPath: join(root, 'p'),
    allowedHosts: [HOST],
    checkHost: async () => ({ outcome: 'checked', addresses: ['127.0.0.1'], isListed: false }),
    connect: async () => connect(port, '127.0.0.1'),
    ca: certificate.cert.toString(),
    cache: cacheOf(),
    log: silentLog,
    signal: new AbortController().signal,
    ...options,
  })
  cleanups.push(async () => {
    await proxy[Symbol.asyncDispose]()
    server.closeAllConnections()
    server.close()
  })
  return proxy
}

interface Asking {
  host?: string
  method?: string
  headers?: Record<string, string>
  body?: string
}

async function ask(path: string, { host = HOST, body, ...asking }: Asking = {}): Promise<[number, string]> {
  const question = request({ socketPath: join(root, 'p'), path: `http://${host}${path}`, ...asking })
  question.end(body)
  const [answer] = await once(question, 'response')
  return [answer.statusCode, (await answer.setEncoding('utf8').toArray()).join('')]
}

test('an allowed host is asked with TLS, once, also by a later proxy', async () => {
  const first = await startProxy()
  expect(await ask('/word?a')).toEqual([200, 'honest'])
  await first[Symbol.asyncDispose]()
  const second = await startProxy()
  expect(await ask('/word?a')).toEqual([200, 'honest'])
  expect(asked).toEqual(['GET /word?a'])
  expect([first.kept, second.kept]).toEqual([0, 1])
})

test('who shares nothing is given nothing', async () => {
  const first = await startProxy()
  await ask('/word')
  await first[Symbol.asyncDispose]()
  await startProxy({ cache: cacheOf('others') })
  expect(await ask('/word')).toEqual([200, 'honest'])
  expect(asked).toHaveLength(2)
})

test('a host whose certificate is not its own is not believed', async () => {
  await startProxy({ ca: '' })
  expect((await ask('/word'))[0]).toBe(502)
  expect(asked).toEqual([])
})

test('a host that is not on the allow-list is refused', async () => {
  const proxy = await startProxy()
  expect((await ask('/word', { host: 'other.test' }))[0]).toBe(403)
  expect((await ask('/word', { host: `${HOST}:8080` }))[0]).toBe(403)
  expect(proxy.refused).toEqual(['other.test:80', `${HOST}:8080`])
})

test('nothing that a request says beside its address reaches the host, or it is not kept', async () => {
  answerWith = ({ headers }, answer) =>
    answer.writeHead(200, KEEP).end(`${String(headers['x-evil'] ?? '')}${headers.authorization ?? ''}honest`)
  await startProxy()
  expect(await ask('/word', { headers: { authorization: 'evil-' } })).toEqual([200, 'evil-honest'])
  expect(await ask('/word', { headers: { 'x-evil': 'evil-' } })).toEqual([200, 'honest'])
  expect(await ask('/word')).toEqual([200, 'honest'])
  expect(asked).toHaveLength(2)
})

test.each([
  ['a failure', (answer: ServerResponse) => answer.writeHead(500, KEEP).end('x')],
  [
    'what its host calls private',
    (answer: ServerResponse) => answer.writeHead(200, { 'cache-control': 'private, max-age=300' }).end('x'),
  ],
  ['what its host says nothing about', (answer: ServerResponse) => answer.end('x')],
  [
    'what is over',
    (answer: ServerResponse) => answer.writeHead(200, { 'cache-control': 'max-age=0' }).end('x'),
  ],
])('is not kept: %s', async (_what, answer) => {
  answerWith = (_asked, response) => answer(response)
  await startProxy()
  await ask('/word')
  await ask('/word')
  expect(asked).toHaveLength(2)
})

test('an answer that was cut off is not kept', async () => {
  answerWith = (_asked, answer) => {
    answer.writeHead(200, { ...KEEP, 'content-length': 100 }).write('half')
    setImmediate(() => answer.destroy())
  }
  await startProxy()
  await expect(ask('/word')).rejects.toThrow()
  answerWith = (_asked, answer) => answer.writeHead(200, KEEP).end('whole')
  expect(await ask('/word')).toEqual([200, 'whole'])
  expect(
    readdirSync(join(root, 'packages'), { recursive: true }).filter((name) => String(name).endsWith('.new')),
  ).toEqual([])
})

test('what is sent is passed on and not kept', async () => {
  answerWith = (question, answer) => void question.pipe(answer.writeHead(200, KEEP))
  await startProxy()
  const posted = { method: 'POST', body: 'audited', headers: { 'content-length': '7' } }
  expect(await ask('/audit', posted)).toEqual([200, 'audited'])
  expect(await ask('/audit', posted)).toEqual([200, 'audited'])
  expect(asked).toHaveLength(2)
})

test('links of a list of Python packages lead through the proxy again', async () => {
  const link = (scheme: string): string =>
    `<a href="${scheme}://${HOST}/f.whl"></a><a href="https://other.test/f.whl">`
  answerWith = (_asked, answer) =>
    answer.writeHead(200, { ...KEEP, 'content-type': 'text/html' }).end(link('https'))
  await startProxy()
  for (const _ of [1, 2]) expect(await ask('/simple/word/')).toEqual([200, link('http')])
  expect(asked).toHaveLength(1)
})

/** As if what was kept within the last minute had been kept so long ago. */
function makeOlder(secondsAgo: number): void {
  const now = Date.now() / 1000
  for (const name of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    const about = statSync(join(root, name))
    const isNew = about.isFile() && about.mtimeMs / 1000 > now - 60
    if (isNew) utimesSync(join(root, name), now - secondsAgo, now - secondsAgo)
  }
}

test('what was used longest ago makes room', async () => {
  answerWith = (question, answer) => answer.writeHead(200, KEEP).end((question.url ?? '').repeat(10_000))
  await startProxy()
  for (const [path, secondsAgo] of [
    ['/a', 300],
    ['/b', 200],
    ['/c', 100],
  ] as const) {
    await ask(path)
    makeOlder(secondsAgo)
  }
  await ask('/a')
  await cacheOf('us', 45_000).trim()
  asked.splice(0)
  for (const path of ['/a', '/c', '/b']) await ask(path)
  expect(asked).toEqual(['GET /b'])
})

test('an answer that cannot be kept is passed on all the same', async () => {
  // Its copy is trimmed away while it is under way.
  answerWith = (_asked, answer) => {
    answer.writeHead(200, KEEP).write('hon')
    const whenCopied = (): void => {
      const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
      if (!files.some((name) => name.endsWith('.new'))) return void setImmediate(whenCopied)
      rmSync(join(root, 'packages'), { recursive: true })
      answer.end('est')
    }
    whenCopied()
  }
  const proxy = await startProxy()
  for (const _ of [1, 2]) expect(await ask('/word')).toEqual([200, 'honest'])
  expect([asked.length, proxy.kept]).toEqual([2, 0])
})
