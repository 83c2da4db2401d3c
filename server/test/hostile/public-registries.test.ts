import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { writeSettings } from '../../src/conduct/setup-phase.ts'
import { openFixture, silentLog } from '../../src/jail/jail-fixture.ts'
import { PackageCache } from '../../src/jail/package-cache.ts'
import { PACKAGE_HOSTS, startSetupProxy } from '../../src/jail/setup-proxy.ts'
import { lackingJail } from './arena.ts'
import { npmTarball, pythonWheel } from './package-registry.ts'

const WHEEL = 'word-1.0.0-py3-none-any.whl'

/** The public registries as they are seen from outside, of one package each, on this machine. */
async function startPublicRegistries(folder: string) {
  const names = PACKAGE_HOSTS.map((host) => `DNS:${host}`).join(',')
  const made = ['-keyout', join(folder, 'key'), '-out', join(folder, 'cert'), '-days', '2', '-subj', '/CN=x']
  const kind = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-addext', `subjectAltName=${names}`]
  execFileSync('openssl', [...kind, ...made], { stdio: 'ignore' })
  const [key, cert] = [readFileSync(join(folder, 'key')), readFileSync(join(folder, 'cert'))]
  const asked: string[] = []
  const dist = { tarball: 'https://registry.npmjs.org/word/-/word-1.0.0.tgz' }
  const versions = { '1.0.0': { name: 'word', version: '1.0.0', dist } }
  const answers: Record<string, string | Buffer> = {
    'registry.npmjs.org/word': JSON.stringify({ name: 'word', 'dist-tags': { latest: '1.0.0' }, versions }),
    'registry.npmjs.org/word/-/word-1.0.0.tgz': npmTarball('word', 'honest'),
    'pypi.org/simple/word/': `<a href="https://files.pythonhosted.org/packages/${WHEEL}">${WHEEL}</a>`,
    [`files.pythonhosted.org/packages/${WHEEL}`]: pythonWheel('word', 'honest'),
  }
  const server = createServer({ key, cert }, (request, response) => {
    const what = `${request.headers.host}${request.url}`
    asked.push(what)
    const type = what.startsWith('pypi') ? 'text/html' : 'application/octet-stream'
    response.writeHead(answers[what] === undefined ? 404 : 200, {
      'cache-control': 'public, max-age=300',
      'content-type': type,
    })
    response.end(answers[what] ?? '{}')
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { asked, ca: cert.toString(), connect: async () => connect(port, '127.0.0.1') }
}

test.skipIf(lackingJail !== null)(
  'npm and pip get packages of the public registries through the cache, without knowing of it',
  async () => {
    await using jail = await openFixture()
    const { asked, ...way } = await startPublicRegistries(jail.root)
    await using proxy = await startSetupProxy({
      socketPath: join(jail.root, 'p'),
      allowedHosts: PACKAGE_HOSTS,
      checkHost: async () => ({ outcome: 'refused', message: 'not asked' }),
      cache: new PackageCache({ root: join(jail.root, 'packages'), sharedBy: 'us', maxBytes: 2 ** 30 }),
      log: silentLog,
      signal: new AbortController().signal,
      ...way,
    })
    const setup = {
      network: { proxySocket: proxy.socketPath },
      mounts: await writeSettings(jail.root, PACKAGE_HOSTS),
      env: {
        CI: 'true',
        npm_config_userconfig: '/run/agentgate/npmrc',
        PIP_CONFIG_FILE: '/run/agentgate/pip.conf',
        PIP_DISABLE_PIP_VERSION_CHECK: '1',
      },
      timeoutMs: 60_000,
    }
    const npm = `mkdir -p a && cd a && echo '{"dependencies":{"word":"1.0.0"}}' > package.json &&
      npm install --no-audit --no-fund >&2 && node -p "require('word')" && grep resolved package-lock.json; rm -r ../a`
    const pip = `pip install --quiet --target b word==1.0.0 && PYTHONPATH=b python3 -c 'import word; print(word.WORD)'; rm -r b`
    for (const _ of [1, 2]) {
      const installed = await jail.sh(npm, setup)
      expect(installed.output).toMatch(/^honest$/m)
      expect(installed.output).toContain('"resolved": "https://registry.npmjs.org/word/-/word-1.0.0.tgz"')
      expect((await jail.sh(pip, setup)).output).toMatch(/^honest$/m)
    }
    expect(asked).toEqual([
      'registry.npmjs.org/word',
      'registry.npmjs.org/word/-/word-1.0.0.tgz',
      'pypi.org/simple/word/',
      `files.pythonhosted.org/packages/${WHEEL}`,
    ])
  },
  120_000,
)
