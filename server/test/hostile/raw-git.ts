import { spawn } from 'node:child_process'

/** Makes objects in a bare repository as they are written, also such as git itself would not make. */
export interface RawRepository {
  blob(content: string | Buffer): Promise<string>
  tree(entries: readonly RawEntry[]): Promise<string>
  /** Makes `main` a commit of this tree. */
  commit(tree: string): Promise<void>
}

export interface RawEntry {
  mode: '100644' | '100755' | '120000' | '160000' | '40000'
  name: string
  id: string
}

export function rawRepository(folder: string): RawRepository {
  const store = (type: string, content: string | Buffer): Promise<string> =>
    git(folder, ['hash-object', '-w', '--literally', '-t', type, '--stdin'], content)
  return {
    blob: (content) => store('blob', content),
    tree: (entries) =>
      store(
        'tree',
        Buffer.concat(
          entries.flatMap(({ mode, name, id }) => [Buffer.from(`${mode} ${name}\0`), Buffer.from(id, 'hex')]),
        ),
      ),
    async commit(tree) {
      const who = 'A <a@example.com> 1700000000 +0000'
      const id = await store('commit', `tree ${tree}\nauthor ${who}\ncommitter ${who}\n\nx\n`)
      await git(folder, ['update-ref', 'refs/heads/main', id], '')
    },
  }
}

function git(folder: string, args: readonly string[], input: string | Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('git', ['-c', 'safe.directory=*', '--git-dir', folder, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { PATH: '/usr/bin:/bin', GIT_CONFIG_NOSYSTEM: '1' },
    })
    let said = ''
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
    child.once('error', reject)
    child.once('close', (code) =>
      code === 0 ? resolve(said.trim()) : reject(new Error(`git ${args[0]}: ${code}`)),
    )
    // A git that needs no input may have ended before it was given any.
    child.stdin.on('error', () => undefined).end(input)
  })
}
