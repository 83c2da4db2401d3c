import { open, readFile, rename, rm, stat, utimes } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { newId } from '../lib/id.ts'

/**
 * Owns: a lock file that one holder in any process of this or another machine has at a time.
 * Invariants: it is taken by exclusive creation; the holder touches it every few seconds; one that nobody has
 * touched for `STALE_MS` belongs to the dead and may be taken over, by one heir.
 * Leaves to others: what it protects. Work under the lock must survive a second holder without harm (git's own
 * locks see to that), because a frozen process may wake up after its lock was taken over.
 */

const TOUCH_MS = 5_000
const STALE_MS = 20_000
const LOOK_MS = 50

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code

async function tryTake(path: string, name: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx', 0o600)
    await file.writeFile(name)
    await file.close()
    return true
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false
    throw error
  }
}

/** Removes the lock of a dead holder. The rename lets one of several heirs win; a fresh lock is put back. */
async function removeStale(path: string): Promise<void> {
  const seen = await stat(path).catch(() => undefined)
  if (seen === undefined || Date.now() - seen.mtimeMs < STALE_MS) return
  const aside = `${path}.${newId('old', Date.now())}`
  try {
    await rename(path, aside)
    if ((await stat(aside)).ino === seen.ino) await rm(aside, { force: true })
    else await rename(aside, path)
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error // another heir was faster
  }
}

const tails = new Map<string, Promise<unknown>>()

/** Lets the calls of this process wait in line without looking at the file. */
async function inLine<T>(path: string, act: () => Promise<T>): Promise<T> {
  const before = tails.get(path) ?? Promise.resolve()
  const mine = before.then(act, act)
  const tail = mine.catch(() => undefined)
  tails.set(path, tail)
  try {
    return await mine
  } finally {
    if (tails.get(path) === tail) tails.delete(path)
  }
}

/** Runs `act` while holding the lock file `path`. */
export function withFolderLock<T>(
  path: string,
  signal: AbortSignal | undefined,
  act: () => Promise<T>,
): Promise<T> {
  return inLine(path, async () => {
    const name = newId('lock', Date.now())
    while (!(await tryTake(path, name))) {
      await removeStale(path)
      await pause(LOOK_MS, undefined, signal === undefined ? {} : { signal })
    }
    const touch = setInterval(() => {
      const now = new Date()
      utimes(path, now, now).catch(() => undefined) // taken over: the new holder touches its own
    }, TOUCH_MS)
    try {
      return await act()
    } finally {
      clearInterval(touch)
      const holder = await readFile(path, 'utf8').catch(() => undefined)
      if (holder === name) await rm(path, { force: true })
    }
  })
}
