import { mkdir } from 'node:fs/promises'

/**
 * Makes a folder that nobody else may read, and its parents. Root's may be passed through, for the users that its
 * database and its jails run as.
 */
export async function makeOwnFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: process.getuid?.() === 0 ? 0o711 : 0o700 })
}
