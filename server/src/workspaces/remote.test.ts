import { expect, test } from 'vitest'
import { Secret } from '../lib/secret.ts'
import { createAddressGuard } from '../outbound/address-guard.ts'
import { failureOf, hostSource } from './hosted-source.fixture.ts'
import { openRemote, parseRepositoryUrl } from './remote.ts'

const guardOf = (addresses: string[], listed: string[] = []) =>
  createAddressGuard(listed, async () => addresses)

test.each([
  'ext::sh -c touch% /tmp/pwned',
  'file:///etc',
  '/etc/passwd',
  'ssh://git@github.com/a/b',
  'git@github.com:a/b.git',
  'git://github.com/a/b',
  'ftp://example.com/a',
  '--upload-pack=touch /tmp/pwned',
  'https://user:pass@github.com/a/b',
  'https://user@github.com/a/b',
  'https://github.com',
  'https://github.com/',
  'https://github.com/a/b?x=1',
  'https://github.com/a/b#x',
  'https://github.com/a/b\n',
  'https://github.com\\@evil.example/a',
  'https://github.com/a b',
  '',
  `https://github.com/${'a'.repeat(3000)}`,
])('%j is no repository', (text) => {
  expect(() => parseRepositoryUrl(text)).toThrowError(expect.objectContaining({ reason: 'source_invalid' }))
})

test('a repository URL is normalised', () => {
  expect(parseRepositoryUrl('https://GitHub.com/acme/shop.git/')).toEqual({
    href: 'https://github.com/acme/shop.git',
    protocol: 'https:',
    host: 'github.com',
    port: 443,
    path: 'acme/shop',
  })
  expect(parseRepositoryUrl('http://git.local:3000/a/b')).toMatchObject({ port: 3000 })
})

test.each([
  'https://127.0.0.1/a/b',
  'https://[::1]/a/b',
  'https://2130706433/a/b',
  'https://0x7f.1/a/b',
  'https://[::ffff:7f00:1]/a/b',
])('%s leads into a private network', async (text) => {
  expect((await failureOf(openRemote(parseRepositoryUrl(text), guardOf([])))).reason).toBe('source_invalid')
})

test('one private address among several is enough to refuse', async () => {
  const url = parseRepositoryUrl('https://rebind.example/a/b')
  expect((await failureOf(openRemote(url, guardOf(['8.8.8.8', '10.0.0.1'])))).reason).toBe('source_invalid')
  expect((await failureOf(openRemote(url, guardOf([])))).reason).toBe('source_unavailable')
  await openRemote(url, guardOf(['10.0.0.1'], ['rebind.example:443']))
})

test('plain http is for listed hosts only', async () => {
  const url = parseRepositoryUrl('http://git.example/a/b')
  expect((await failureOf(openRemote(url, guardOf(['8.8.8.8'])))).reason).toBe('source_invalid')
  const { call } = await openRemote(url, guardOf(['10.0.0.1'], ['10.0.0.0/8']))
  expect(call.environment).toEqual({ GIT_ALLOW_PROTOCOL: 'http' })
})

test('git is pinned to the checked address, and the credential stands in the environment only', async () => {
  const url = parseRepositoryUrl('https://git.example/a/b')
  const credential = { username: 'x', password: new Secret('hush') }
  const { call } = await openRemote(url, guardOf(['8.8.8.8']), credential)
  expect(call.config).toContain('http.curloptResolve=git.example:443:8.8.8.8')
  expect(call.config).toContain('http.followRedirects=false')
  expect(JSON.stringify(call.config)).not.toContain('hush')
  expect(call.environment).toMatchObject({
    GIT_ALLOW_PROTOCOL: 'https',
    GIT_CONFIG_KEY_0: 'http.https://git.example/.extraHeader',
    GIT_CONFIG_VALUE_0: `Authorization: Basic ${Buffer.from('x:hush').toString('base64')}`,
  })
})

test('git connects to the pinned address whatever the name server would say', async () => {
  await using source = await hostSource()
  const named = source.access.url.replace('127.0.0.1', 'git.invalid')
  const workspaces = source.another({
    resolve: async () => ['127.0.0.1'],
  })
  const workspace = await workspaces.open({ runId: 'run_1', organisation: 'org', repository: named })
  expect(workspace.baseCommit).toBe(await source.host.head('acme', 'shop', 'main'))
})
