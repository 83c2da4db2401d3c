import { spawn } from 'node:child_process'
import { lchown } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { invariant } from '../lib/invariant.ts'

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
  const linkedFile = ['-type', 'f', '-links', '+1', '-printf', '%D:%i %n %p\\0']
  const changeOwner = ['-exec', 'chown', '--no-dereference', `${uid}:${gid}`, '{}', '+']
  const others = ['-xdev', '!', '-uid', String(uid)]
  const linked = await runFind([path, ...others, '(', ...linkedFile, '-o', ...changeOwner, ')'])
  for (const file of closedLinks(linked)) await lchown(file, uid, gid)
}

/** One path of each file of which every link is listed. */
function closedLinks(listed: string): Buffer[] {
  const files = new Map<string, { links: number; seen: number; path: Buffer }>()
  for (const entry of listed.split('\0')) {
    const [inode, links, ...rest] = entry.split(' ')
    if (inode === undefined || links === undefined) continue
    const file = files.get(inode) ?? {
      links: Number(links),
      seen: 0,
      path: Buffer.from(rest.join(' '), 'latin1'),
    }
    file.seen++
    files.set(inode, file)
  }
  return [...files.values()].filter((file) => file.seen === file.links).map((file) => file.path)
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
