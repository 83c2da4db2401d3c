import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** An address of this machine that package managers do not take for their own. */
const HOST = '127.0.0.2'

/** A loopback registry of npm and of Python packages, each with one version that says a word. */
export interface PackageRegistry extends AsyncDisposable {
  url: string
  /** `host:port`, as the allow-list names it. */
  host: string
  /** `METHOD /path` of every request, in order. */
  asked: string[]
  /** Packages that are asked for in vain. */
  broken: Set<string>
  /** Every answer from now on: `silent` never begins, `dripping` comes byte by byte. */
  pace: 'quick' | 'silent' | 'dripping'
}

export async function startPackageRegistry(word: string): Promise<PackageRegistry> {
  const tarball = npmTarball('word', word)
  const wheel = pythonWheel('word', word)
  const asked: string[] = []
  const broken = new Set<string>()
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`)
    response.setHeader('cache-control', 'public, max-age=300')
    answer(request, response)
  })
  const drip = (response: ServerResponse): void => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': 1_000_000 })
    const dripping = setInterval(() => response.write(' '), 50)
    response.once('close', () => clearInterval(dripping))
  }
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    if (registry.pace === 'silent') return
    if (registry.pace === 'dripping') return drip(response)
    const { pathname } = new URL(request.url ?? '/', 'http://registry')
    if (broken.has(pathname.slice(1))) return void response.writeHead(500).end('broken')
    if (request.method !== 'GET') return void response.writeHead(405).end()
    // A registry that believes what it is told, as badly configured ones do.
    const origin = `http://${String(request.headers['x-forwarded-host'] ?? request.headers.host)}`
    if (pathname === '/word/-/word-1.0.0.tgz') return void response.end(tarball)
    if (pathname === '/files/word-1.0.0-py3-none-any.whl') return void response.end(wheel)
    if (pathname === '/simple/word/') {
      response.setHeader('content-type', 'text/html')
      const file = 'word-1.0.0-py3-none-any.whl'
      return void response.end(
        `<!DOCTYPE html><html><body><a href="${origin}/files/${file}">${file}</a></body></html>`,
      )
    }
    if (pathname !== '/word') return void response.writeHead(404).end('{}')
    response.setHeader('content-type', 'application/json')
    const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`
    const dist = { tarball: `${origin}/word/-/word-1.0.0.tgz`, integrity }
    const versions = { '1.0.0': { name: 'word', version: '1.0.0', dist } }
    response.end(JSON.stringify({ name: 'word', 'dist-tags': { latest: '1.0.0' }, versions }))
  }
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve))
  const host = `${HOST}:${(server.address() as AddressInfo).port}`
  const registry: PackageRegistry = {
    url: `http://${host}`,
    host,
    asked,
    broken,
    pace: 'quick',
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return registry
}

/** A package of npm that exports a word. */
export function npmTarball(name: string, word: string): Buffer {
  return inFolder((folder) => {
    mkdirSync(join(folder, 'package'))
    writeFileSync(join(folder, 'package/package.json'), JSON.stringify({ name, version: '1.0.0' }))
    writeFileSync(join(folder, 'package/index.js'), `module.exports = ${JSON.stringify(word)}\n`)
    return execFileSync('tar', ['czf', '-', 'package'], { cwd: folder })
  })
}

/** A package of Python whose module has a word. */
export function pythonWheel(name: string, word: string): Buffer {
  const script = `import sys, zipfile
name, word = sys.argv[1:]
info = f"{name}-1.0.0.dist-info"
with zipfile.ZipFile("made.whl", "w") as wheel:
    wheel.writestr(f"{name}.py", f"WORD = {word!r}\\n")
    wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0.0\\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr(f"{info}/RECORD", f"{name}.py,,\\n{info}/METADATA,,\\n{info}/WHEEL,,\\n{info}/RECORD,,\\n")
`
  return inFolder((folder) => {
    execFileSync('/usr/bin/python3', ['-c', script, name, word], { cwd: folder })
    return readFileSync(join(folder, 'made.whl'))
  })
}

function inFolder<T>(act: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'agentgate-package-'))
  try {
    return act(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
