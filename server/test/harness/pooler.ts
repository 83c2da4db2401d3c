import { once } from 'node:events'
import { connect, createServer } from 'node:net'

/** Something between a client and its PostgreSQL. */
export interface Pooler extends AsyncDisposable {
  /** Of the same database, through the pooler. */
  url: string
}

/** Two clients over one session, one transaction at a time, is what a transaction pooler does to them. */
export async function startPooler(url: string): Promise<Pooler> {
  const target = new URL(url)
  const host = target.searchParams.get('host') ?? target.hostname
  const pooler = createServer((client) => {
    const backend = host.startsWith('/')
      ? connect(`${host}/.s.PGSQL.${target.port || '5432'}`)
      : connect(Number(target.port || '5432'), host)
    client.pipe(backend).on('error', () => client.destroy())
    // Every answer about the backend's pid names the same one.
    backend.on('data', (data: Buffer) => client.write(claimOnePid(data)))
    backend.on('close', () => client.destroy())
    client.on('error', () => backend.destroy())
    client.on('close', () => backend.destroy())
  })
  await once(pooler.listen(0, '127.0.0.1'), 'listening')
  const address = pooler.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const { username, password, pathname } = target
  return {
    url: new URL(`postgresql://${username}:${password}@127.0.0.1:${address.port}${pathname}`).href,
    async [Symbol.asyncDispose]() {
      pooler.close()
    },
  }
}

/** Replaces the digits in a row of one column `pid` by as many sevens: tag, length, columns and size, then digits. */
function claimOnePid(data: Buffer): Buffer {
  const description = data.indexOf('pid\0')
  const row = data.indexOf('D', description)
  if (description < 0 || row < 0) return data
  const digits = row + 11
  return data.fill('7', digits, digits + data.readInt32BE(row + 7))
}
