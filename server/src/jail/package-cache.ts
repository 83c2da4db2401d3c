/**
 * Owns: what package registries answered, kept below one folder for the next setup of the same repository.
 * Invariants: only this process and its like write here, and only what a registry answered to them, so nothing a
 * jailed command does can change what another one gets; an entry appears whole, by rename, which needs no lock; what
 * was altered on the disk, or is older than its registry allows, is not given out.
 * Leaves to others: who may ask which registry (`setup-proxy.ts`).
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { systemClock } from '../lib/clock.ts'
import { sha256 } from '../lib/hash.ts'
import { isStale, processMark } from './process-mark.ts'

export interface PackageCacheOptions {
  /** Holds the caches of all repositories. */
  root: string
  /** Who may share: what one setup got is given to later ones with the same text. */
  sharedBy: string
  /** What all caches below `root` may hold together; `trim` sees to it. */
  maxBytes: number
}

/** What one request is known by: answers differ by nothing else that is sent. */
export interface Question {
  url: string
  accept: string
}

interface Entry {
  url: string
  type: string
  /** Of the body, which is named after it. */
  sha256: string
  bytes: number
  expiresAt: number
}

export interface KeptAnswer {
  type: string
  bytes: number
  body: Readable
}

/** Takes a copy of an answer on its way to the one who asked. */
export interface Copy {
  /**
   * Passes the answer on, and has kept it when its end is passed on. An answer that breaks off is dropped; one that
   * cannot be kept, on a full disk or because its copy was trimmed, is passed on all the same.
   */
  take(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer>
}

const MAX_ENTRY_BYTES = 256 * 2 ** 20
const MAX_AGE_SECONDS = 30 * 24 * 3_600
let copies = 0

export class PackageCache {
  readonly #options: PackageCacheOptions
  readonly #folder: string

  constructor(options: PackageCacheOptions) {
    this.#options = options
    this.#folder = join(options.root, sha256(options.sharedBy).slice(0, 40))
  }

  async find(question: Question): Promise<KeptAnswer | undefined> {
    const place = this.#placeOf(question)
    const entry = await readFile(place, 'utf8').then(parseEntry, () => undefined)
    if (entry === undefined || entry.expiresAt <= systemClock.now()) return undefined
    const body = this.#bodyOf(entry.sha256)
    if ((await hashOf(body)) !== entry.sha256) {
      await Promise.all([place, body].map((path) => rm(path, { force: true })))
      return undefined
    }
    const now = new Date(systemClock.now())
    const file = await open(body).catch(() => undefined)
    if (file === undefined) return undefined
    // Trimmed meanwhile: what is open can still be read.
    for (const path of [place, body]) await utimes(path, now, now).catch(() => undefined)
    return { type: entry.type, bytes: entry.bytes, body: file.createReadStream() }
  }

  /** Begins a copy of an answer, when its registry allows one; `cacheControl` and `type` are its headers. */
  async copy(
    question: Question,
    { cacheControl = '', type = '' }: { cacheControl?: string | undefined; type?: string | undefined },
  ): Promise<Copy | undefined> {
    const seconds = Math.min(maxAge(cacheControl), MAX_AGE_SECONDS)
    if (seconds <= 0) return undefined
    const temporary = join(this.#folder, `${processMark()}-${++copies}.new`)
    // The folder of bodies is made with the cache: nobody but the server may enter.
    await mkdir(join(this.#folder, 'bodies'), { recursive: true, mode: 0o700 })
    const keep = async (digest: string, bytes: number): Promise<void> => {
      await rename(temporary, this.#bodyOf(digest))
      const expiresAt = systemClock.now() + seconds * 1000
      await this.#write(question, { url: question.url, type, sha256: digest, bytes, expiresAt })
    }
    return {
      async *take(chunks) {
        const hash = createHash('sha256')
        let bytes = 0
        let file = await open(temporary, 'wx', 0o600).catch(() => undefined)
        const drop = async (): Promise<void> => {
          await file?.close().catch(() => undefined)
          file = undefined
        }
        try {
          for await (const chunk of chunks) {
            bytes += chunk.length
            hash.update(chunk)
            if (bytes > MAX_ENTRY_BYTES) await drop()
            await file?.writeFile(chunk).catch(drop)
            yield chunk
          }
          if (file !== undefined) await keep(hash.digest('hex'), bytes).catch(() => undefined)
        } finally {
          await drop()
          await rm(temporary, { force: true })
        }
      },
    }
  }

  /** Removes what was used longest ago until all caches hold no more than they may, and what the dead left. */
  async trim(): Promise<void> {
    const { root, maxBytes } = this.#options
    const names = await readdir(root, { recursive: true }).catch(() => [])
    const found = await Promise.all(
      names.map(async (name) => {
        const path = join(root, name)
        const about = await stat(path).catch(() => undefined)
        return about?.isFile() ? [{ path, bytes: about.size, usedAt: about.mtimeMs }] : []
      }),
    )
    const files = found.flat().sort((a, b) => b.usedAt - a.usedAt)
    let bytes = 0
    for (const file of files) {
      const isLeft = file.path.endsWith('.new') && isStale(file.path.slice(dirname(file.path).length + 1))
      bytes += file.bytes
      if (isLeft || bytes > maxBytes) await rm(file.path, { force: true })
    }
  }

  #placeOf({ url, accept }: Question): string {
    return join(this.#folder, `${sha256(`${url}\n${accept}`)}.json`)
  }

  #bodyOf(digest: string): string {
    return join(this.#folder, 'bodies', digest)
  }

  async #write(question: Question, entry: Entry): Promise<void> {
    const temporary = join(this.#folder, `${processMark()}-${++copies}.new`)
    await writeFile(temporary, JSON.stringify(entry), { flag: 'wx', mode: 0o600 })
    await rename(temporary, this.#placeOf(question))
  }
}

/** Seconds that a shared cache may keep an answer, by its `cache-control`; 0 where it says nothing. */
function maxAge(cacheControl: string): number {
  if (/\b(no-store|no-cache|private)\b/i.test(cacheControl)) return 0
  return Number(/\bmax-age=(\d{1,10})\b/i.exec(cacheControl)?.[1] ?? 0)
}

/** An entry as `#write` wrote it; nothing when the file is damaged. */
function parseEntry(text: string): Entry | undefined {
  try {
    const entry: Entry = JSON.parse(text)
    return /^[0-9a-f]{64}$/.test(entry.sha256) ? entry : undefined
  } catch {
    return undefined
  }
}

async function hashOf(path: string): Promise<string | undefined> {
  const hash = createHash('sha256')
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk)
  } catch {
    return undefined
  }
  return hash.digest('hex')
}
