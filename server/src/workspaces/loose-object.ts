import { createHash } from 'node:crypto'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { deflateSync } from 'node:zlib'
import { newId } from '../lib/id.ts'
import { invariant } from '../lib/invariant.ts'

export interface NewCommit {
  tree: string
  parents: readonly string[]
  message: string
  /** Seconds since the epoch. */
  atSeconds: number
}

const WHO = 'AgentGate <agentgate@localhost>'

/**
 * Writes a commit into a git directory, byte for byte as `git commit-tree` would, and gives its name. Like git it is
 * moved into place and not flushed to the disk: a process that is killed leaves it whole or not at all.
 */
export async function writeCommit(
  gitDir: string,
  { tree, parents, message, atSeconds }: NewCommit,
): Promise<string> {
  invariant(!message.includes('\0'), 'a commit message has no NUL')
  const moment = `${WHO} ${atSeconds} +0000`
  const heads = [`tree ${tree}`, ...parents.map((parent) => `parent ${parent}`)]
  const body = Buffer.from([...heads, `author ${moment}`, `committer ${moment}`, '', message].join('\n'))
  const object = Buffer.concat([Buffer.from(`commit ${body.length}\0`), body])
  const id = createHash('sha1').update(object).digest('hex')
  const folder = join(gitDir, 'objects', id.slice(0, 2))
  await mkdir(folder, { recursive: true })
  const aside = join(folder, `tmp_obj_${newId('new', Date.now())}`)
  await writeFile(aside, deflateSync(object, { level: 1 }), { mode: 0o444 })
  await rename(aside, join(folder, id.slice(2)))
  return id
}
