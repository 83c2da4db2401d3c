import { spawn } from 'node:child_process'
import { lchownSync, lstatSync, readdirSync, type Stats } from 'node:fs'
import { isAbsolute } from 'node:path'
import { invariant } from '../lib/invariant.ts'

/** Trees of more entries are left to a program, which is slower to begin and faster at work. */
const FEW = 200
/** A folder that takes more than that many names can is not even read: reading stops everything else meanwhile. */
const FOLDER_BYTES = 128 * 1024

/**
 * Makes `uid` the owner of everything below `path`: links are not followed, mounts are not entered, files that
 * have the owner already are not touched. Changing an owner clears set-id bits, so nothing comes back from a
 * jail with the power of the one who takes it.
 *
 * A file with further hard links changes its owner only when all of its links are inside the tree: a file
 * shared with something outside, such as the objects of a mirror, stays as it is.
 *
 * Nothing may be running in the tree meanwhile.
 */
export async function giveTree(path: string, uid: number, gid: number): Promise<void> {
  invariant(isAbsolute(path), 'a tree is given by its absolute path')
  const few = listFew(Buffer.from(path))
  if (few === undefined) return giveLargeTree(path, uid, gid)
  const others = few.filter(({ stats }) => stats.uid !== uid)
  const linked: LinkedFile[] = []
  for (const { path, stats } of others) {
    if (!stats.isFile() || stats.nlink === 1) lchownSync(path, uid, gid)
    else linked.push({ inode: `${stats.dev}:${stats.ino}`, links: stats.nlink, path })
  }
  for (const file of closedLinks(linked)) lchownSync(file, uid, gid)
}

interface Entry {
  path: Buffer
  stats: Stats
}

/** A tree with its root, if it is small. Names stay bytes, so that one which is not UTF-8 is found again. */
function listFew(root: Buffer): Entry[] | undefined {
  const rootStats = lstatSync(root)
  const entries: Entry[] = [{ path: root, stats: rootStats }]
  for (const { path, stats } of entries) {
    if (!stats.isDirectory() || stats.dev !== rootStats.dev) continue
    if (stats.size > FOLDER_BYTES) return undefined
    for (const name of readdirSync(path, { encoding: 'buffer' })) {
      const below = Buffer.concat([path, Buffer.from('/'), name])
      if (entries.push({ path: below, stats: lstatSync(below) }) > FEW) return undefined
    }
  }
  return entries
}

async function giveLargeTree(path: string, uid: number, gid: number): Promise<void> {
  const linkedFile = ['-type', 'f', '-links', '+1', '-printf', '%D:%i %n %p\\0']
  const changeOwner = ['-exec', 'chown', '--no-dereference', `${uid}:${gid}`, '{}', '+']
  const others = ['-xdev', '!', '-uid', String(uid)]
  const listed = await runFind([path, ...others, '(', ...linkedFile, '-o', ...changeOwner, ')'])
  const linked = listed.split('\0').flatMap((entry) => {
    const [inode, links, ...rest] = entry.split(' ')
    return inode && links
      ? [{ inode, links: Number(links), path: Buffer.from(rest.join(' '), 'latin1') }]
      : []
  })
  for (const file of closedLinks(linked)) lchownSync(file, uid, gid)
}

interface LinkedFile {
  inode: string
  links: number
  path: Buffer
}

/** One path of each file of which every link is listed. */
function closedLinks(linked: readonly LinkedFile[]): Buffer[] {
  const seen = new Map<string, LinkedFile & { left: number }>()
  for (const file of linked) {
    const known = seen.get(file.inode) ?? { ...file, left: file.links }
    known.left--
    seen.set(file.inode, known)
  }
  return [...seen.values()].filter(({ left }) => left === 0).map(({ path }) => path)
}

function runFind(args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('/usr/bin/find', args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8' },
    })
    // Latin-1 keeps every byte, so that a name which is not UTF-8 is found again.
    let listed = ''
    let complaint = ''
    child.stdout.setEncoding('latin1').on('data', (text: string) => (listed += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (complaint.length < 1000) complaint += text
    })
    child.once('error', reject)
    child.once('close', (code) => {
      if (code === 0) resolve(listed)
      else reject(new Error(`changing the owner of a workspace failed: ${complaint.trim()}`))
    })
  })
}
