import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { openAtUrl } from '../../src/storage/open-patiently.ts'
import { provideEmptyDatabase, urlOf } from '../harness/postgres.ts'

const open: Server[] = []
afterEach(() => {
  for (const server of open.splice(0)) server.close()
})

const OPTIONS = { maxReaders: 1, statementTimeoutMs: 0 }

test('a start waits for a database that says it is starting, and says so once', async () => {
  const url = await doorTo(await provideEmptyDatabase(), (visit) => (visit <= 3 ? refusal('57P03') : null))
  const told: unknown[] = []
  await using database = await openAtUrl(url, {
    ...OPTIONS,
    onWait: (why) => told.push(why),
    isStopping: () => false,
  })
  expect(await database.query('select 1 as one')).toEqual([{ one: 1 }])
  expect(told).toMatchObject([{ sqlState: '57P03' }])
})

test('it waits no longer once it is told to stop', async () => {
  const url = await doorTo(await provideEmptyDatabase(), () => refusal('57P03'))
  let asked = 0
  const opening = openAtUrl(url, { ...OPTIONS, onWait: () => undefined, isStopping: () => ++asked > 2 })
  await expect(opening).rejects.toMatchObject({ sqlState: '57P03' })
  expect(asked).toBe(3)
})

test('what time does not mend is told at once', async () => {
  const told: unknown[] = []
  const url = await doorTo(await provideEmptyDatabase(), () => refusal('28P01'))
  const opening = openAtUrl(url, { ...OPTIONS, onWait: (why) => told.push(why), isStopping: () => false })
  await expect(opening).rejects.toMatchObject({ sqlState: '28P01' })
  expect(told).toEqual([])
})

/** How PostgreSQL turns a visitor away. */
function refusal(sqlState: string): Buffer {
  const fields = Buffer.from(`SFATAL\0VFATAL\0C${sqlState}\0Mthe database system is starting up\0\0`)
  const head = Buffer.alloc(5)
  head.write('E')
  head.writeInt32BE(fields.length + 4, 1)
  return Buffer.concat([head, fields])
}

/** The way to a database: whoever comes is answered by `answer`, or let through where that is nothing. */
async function doorTo(url: string, answer: (visit: number) => Buffer | null): Promise<string> {
  const behind = new URL(url)
  const folder = behind.searchParams.get('host')
  const port = behind.port || '5432'
  const path = folder === null ? { host: behind.hostname, port: Number(port) } : `${folder}/.s.PGSQL.${port}`
  let visits = 0
  const server = createServer((visitor: Socket) => {
    visitor.on('error', () => undefined)
    const said = answer(++visits)
    if (said !== null) {
      visitor.once('data', () => visitor.end(said))
      return
    }
    const through = typeof path === 'string' ? connect(path) : connect(path)
    through.on('error', () => visitor.destroy())
    visitor.pipe(through).pipe(visitor)
  })
  open.push(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port: own } = server.address() as AddressInfo // of a TCP server
  return urlOf(
    `postgresql://${behind.username}:${behind.password}@127.0.0.1:${own}/x`,
    behind.pathname.slice(1),
  )
}
