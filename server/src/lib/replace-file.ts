import { rename, writeFile } from 'node:fs/promises'
import { newId } from './id.ts'

/** Who reads the file meanwhile sees the old content or the new. */
export async function replaceFile(
  path: string,
  content: string,
  aside = `${path}.${newId('new', Date.now())}`,
): Promise<void> {
  await writeFile(aside, content)
  await rename(aside, path)
}
