import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { Webhook } from 'standardwebhooks'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type ManualClock, manualClock } from '../../test/harness/manual-clock.ts'
import { provideTestDatabase } from '../../test/harness/postgres.ts'
import { newId } from '../lib/id.ts'
import { createGuardedFetch, type GuardedFetch } from '../outbound/guarded-fetch.ts'
import { type Database, openDatabase } from '../storage/database.ts'
import { mintWebhookSecret } from '../vault/keys.ts'
import { createRelay, type Relay, type RelayOptions } from './relay.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const secret = mintWebhookSecret()
const envelope = (seq: number): string => `{"id":"evt_${seq}","seq":${seq},"data":{"output":"é"}}`

let database: Database
let guarded: GuardedFetch
let clock: ManualClock
const cleanups: (() => Promise<unknown>)[] = []

beforeAll(async () => {
  database = await openDatabase(await provideTestDatabase(), { maxReaders: 4, statementTimeoutMs: 10_000 })
  guarded = createGuardedFetch({ allowedPrivateRanges: ['127.0.0.0/8'], connectTimeoutMs: 2_000 })
})
afterAll(async () => {
  await guarded.close()
  await database.close()
})
beforeEach(() => {
  clock = manualClock(Date.now())
})
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  await database.query('delete from delivery')
})

const parts = (): RelayOptions => ({
  db: database,
  clock,
  fetch: guarded.fetch,
  secretFor: async () => ({ current: secret }),
  cleanFor: async () => (text) => text.replaceAll('hunter22', '[secret]'),
  eventLine: async (_runId, seq) => envelope(seq),
  random: () => 0.5,
  log: { warn: () => undefined, error: () => undefined },
  concurrencyPerUrl: 2,
})

function relay(options: Partial<RelayOptions> = {}): Relay {
  const made = createRelay({ ...parts(), ...options })
  cleanups.push(() => made.close())
  return made
}

interface Call {
  headers: IncomingHttpHeaders
  body: string
}

/** A receiver on a port of its own; `calls(n)` waits until it was called n times. */
async function receiver(answer: RequestListener) {
  const calls: Call[] = []
  let onCall: () => void = () => undefined
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      calls.push({ headers: request.headers, body: Buffer.concat(chunks).toString() })
      answer(request, response)
      onCall()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.push(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  const { port } = server.address() as AddressInfo // a TCP server that listens has one
  return {
    url: `http://127.0.0.1:${port}/hook`,
    calls,
    called: async (times: number): Promise<void> => {
      while (calls.length < times) await new Promise<void>((resolve) => (onCall = resolve))
    },
  }
}

/** Answers with these statuses in turn, the last one for ever. */
const answering =
  (...statuses: number[]): RequestListener =>
  (_request, response) => {
    const status = statuses.length > 1 ? statuses.shift() : statuses[0]
    response.writeHead(status ?? 200).end('thanks')
  }

async function owe(url: string, seq = 1): Promise<string> {
  const id = newId('dlv', clock.now())
  await database.query(
    `insert into delivery (id, organization_id, mode, run_id, event_id, event_type, seq, url, created_at, next_attempt_at)
     values ($1, 'org_1', 'live', 'run_1', $2, 'run.completed', $3, $4, $5, $5)`,
    [id, `evt_${seq}`, seq, url, new Date(clock.now())],
  )
  return id
}

interface Standing {
  outcome: string | null
  attempts: number
  status: number | null
  error: string | null
  inMs: number | null
}

async function standing(id: string): Promise<Standing | undefined> {
  const [row] = await database.query<Standing>(
    `select outcome, attempts, last_status as status, last_error as error,
       (extract(epoch from next_attempt_at - $2::timestamptz) * 1000)::float8 as "inMs"
     from delivery where id = $1`,
    [id, new Date(clock.now())],
  )
  return row
}

describe('one delivery', () => {
  test('arrives with headers and body as the contract has them', async () => {
    const { url, calls } = await receiver(answering(204))
    const id = await owe(url)

    expect(await relay().tick()).toBe(true)

    const [call] = calls
    expect(call?.body).toBe(envelope(1))
    expect(call?.headers).toMatchObject({
      'content-type': 'application/json',
      'user-agent': 'AgentGate-Webhooks',
      'webhook-id': 'evt_1',
      'x-agentgate-event': 'run.completed',
      'x-agentgate-signature': expect.stringMatching(/^sha256=[0-9a-f]{64}$/),
    })
    expect(
      new Webhook(secret.reveal()).verify(call?.body ?? '', {
        'webhook-id': String(call?.headers['webhook-id']),
        'webhook-timestamp': String(call?.headers['webhook-timestamp']),
        'webhook-signature': String(call?.headers['webhook-signature']),
      }),
    ).toMatchObject({ seq: 1 })
    expect(await standing(id)).toMatchObject({ outcome: 'delivered', attempts: 1, status: 204, inMs: null })
  })

  test('that fails is made again by the schedule: same id, same bytes, and each attempt is on record', async () => {
    const { url, calls } = await receiver(answering(500, 503, 200))
    const id = await owe(url)
    const sender = relay()

    await sender.tick()
    expect(await standing(id)).toMatchObject({ outcome: null, attempts: 1, status: 500, inMs: 5_000 })
    clock.advance(4_999)
    expect(await sender.tick()).toBe(false)
    clock.advance(1)
    await sender.tick()
    expect(await standing(id)).toMatchObject({ outcome: null, attempts: 2, status: 503, inMs: 5 * MINUTE })
    clock.advance(5 * MINUTE)
    await sender.tick()

    expect(await standing(id)).toMatchObject({ outcome: 'delivered', attempts: 3, status: 200 })
    expect(new Set(calls.map((call) => call.headers['webhook-id']))).toEqual(new Set(['evt_1']))
    expect(new Set(calls.map((call) => call.body))).toEqual(new Set([envelope(1)]))
    expect(new Set(calls.map((call) => call.headers['webhook-timestamp'])).size).toBe(3)
    expect(
      await database.query(
        'select n, status, answer from delivery_attempt where delivery_id = $1 order by n',
        [id],
      ),
    ).toEqual([
      { n: 1, status: 500, answer: 'thanks' },
      { n: 2, status: 503, answer: 'thanks' },
      { n: 3, status: 200, answer: 'thanks' },
    ])
    expect(await sender.tick()).toBe(false)
  })

  test('that is answered 410 is refused for good', async () => {
    const { url } = await receiver(answering(410))
    const id = await owe(url)

    await relay().tick()

    expect(await standing(id)).toMatchObject({ outcome: 'refused', attempts: 1, status: 410, inMs: null })
  })

  test('waits as long as Retry-After says', async () => {
    const { url } = await receiver((_request, response) =>
      response.writeHead(429, { 'retry-after': '3600' }).end(),
    )
    const id = await owe(url)

    await relay().tick()

    expect(await standing(id)).toMatchObject({ outcome: null, inMs: HOUR })
  })

  test('does not follow a redirect', async () => {
    const target = await receiver(answering(200))
    const { url } = await receiver((_request, response) =>
      response.writeHead(302, { location: target.url }).end(),
    )
    const id = await owe(url)

    await relay().tick()

    expect(await standing(id)).toMatchObject({ outcome: null, status: 302, inMs: 5_000 })
    expect(target.calls).toHaveLength(0)
  })

  test('to an address that is not public is a failed attempt that says why', async () => {
    const id = await owe('https://10.0.0.1/hook')

    await relay().tick()

    expect(await standing(id)).toMatchObject({
      outcome: null,
      status: null,
      error: '10.0.0.1 leads to an address that is not public.',
    })
  })

  test('that was answered with megabytes is delivered, and only the beginning is kept', async () => {
    const { url } = await receiver((_request, response) => response.end('x\u0000'.repeat(2_000_000)))
    const id = await owe(url)

    await relay().tick()

    const attempts = await database.query('select length(answer) as length from delivery_attempt')
    expect(attempts).toEqual([{ length: 1_024 }])
    expect(await standing(id)).toMatchObject({ outcome: 'delivered' })
  })

  test('is kept without the secrets of its answer, also where the answer is cut', async () => {
    const { url } = await receiver((_request, response) => response.end(`${'x'.repeat(1_020)}hunter22`))
    await owe(url)

    await relay().tick()

    expect(await database.query('select answer from delivery_attempt')).toEqual([
      { answer: `${'x'.repeat(1_020)}[sec` },
    ])
  })

  test('whose answer cannot be masked is on record without it, and is not made again', async () => {
    const { url, calls } = await receiver((_request, response) => response.end('thanks'))
    const id = await owe(url)
    const cleanFor = async (): Promise<never> => {
      throw new Error('A stored secret cannot be read.')
    }
    const sender = relay({ cleanFor })

    await sender.tick()
    clock.advance(2 * MINUTE)
    await sender.tick()

    expect(calls).toHaveLength(1)
    expect(await standing(id)).toMatchObject({ outcome: 'delivered', attempts: 1 })
    expect(await database.query('select answer from delivery_attempt')).toEqual([{ answer: '' }])
  })

  test('is given up after ten attempts over three days, in the open', async () => {
    const { url, calls } = await receiver(answering(404))
    const id = await owe(url)
    const sender = relay()

    for (let n = 1; n <= 10; n++) {
      await sender.tick()
      clock.advance((await standing(id))?.inMs ?? 0)
    }

    expect(await standing(id)).toMatchObject({ outcome: 'gave_up', attempts: 10, status: 404, inMs: null })
    expect(calls).toHaveLength(10)
  })

  test('of an event that was purged is given up, one without a secret waits for it', async () => {
    const { url, calls } = await receiver(answering(200))
    const purged = await owe(url)
    await relay({ eventLine: async () => undefined }).tick()
    const unsigned = await owe(url)
    await relay({ secretFor: async () => undefined }).tick()
    const sealed = await owe(url)
    await relay({ secretFor: () => Promise.reject(new Error('does not open')) }).tick()

    expect(await standing(purged)).toMatchObject({
      outcome: 'gave_up',
      error: 'The event is no longer kept.',
    })
    expect(await standing(unsigned)).toMatchObject({
      outcome: null,
      error: 'There is no secret to sign with.',
    })
    expect(await standing(sealed)).toMatchObject({
      outcome: null,
      error: 'The delivery could not be composed.',
    })
    expect(calls).toHaveLength(0)
  })
})

describe('many deliveries', () => {
  test('a receiver that hangs delays its own deliveries only (and is cut off at close)', async () => {
    const dead = await receiver(() => undefined)
    const healthy = await receiver(answering(200))
    const hanging = await Promise.all(Array.from({ length: 20 }, (_, i) => owe(`${dead.url}?order=${i}`, i)))
    for (let seq = 0; seq < 5; seq++) await owe(healthy.url, seq)
    const sender = relay()

    sender.start()
    await healthy.called(5)
    await dead.called(2)
    await owe(healthy.url, 6)
    sender.wake()
    await healthy.called(6)

    expect(dead.calls).toHaveLength(2)
    await sender.close()
    for (const id of hanging) expect(await standing(id)).toMatchObject({ outcome: null, attempts: 0 })
    const claimed = await database.query('select id from delivery where claimed_until is not null')
    expect(claimed).toEqual([])
  })

  test('the loop finds by itself what comes due', async () => {
    const { url, calls, called } = await receiver(answering(500, 200))
    const id = await owe(url)
    const sender = relay()

    sender.start()
    await called(1)
    for (; calls.length < 2; await nextTurn()) clock.advance(1_000)
    await sender.close()

    expect(await standing(id)).toMatchObject({ outcome: 'delivered', attempts: 2 })
  })

  test('a receiver that is down is left alone, tried by one, and gets everything when it is back', async () => {
    let status = 503
    const { url, calls } = await receiver((_request, response) => response.writeHead(status).end())
    const ids = await Promise.all(Array.from({ length: 12 }, (_, i) => owe(url, i)))
    const sender = relay({ concurrencyPerUrl: 5 })

    while (await sender.tick());
    expect(calls).toHaveLength(5)

    clock.advance(5_000)
    while (await sender.tick());
    expect(calls).toHaveLength(6)

    status = 200
    clock.advance(HOUR)
    while (await sender.tick());
    for (const id of ids) expect(await standing(id)).toMatchObject({ outcome: 'delivered' })
  })

  test('what a receiver that is down has been owed for five days is given up', async () => {
    const { url, calls } = await receiver(answering(503))
    const old = await owe(url, 0)
    await database.query("update delivery set created_at = created_at - interval '121 hours'")
    const sender = relay({ concurrencyPerUrl: 5 })
    clock.advance(1)
    for (let seq = 1; seq <= 5; seq++) await owe(url, seq)

    while (await sender.tick());
    await database.query('update delivery set next_attempt_at = $2 where id = $1', [
      old,
      new Date(clock.now()),
    ])
    while (await sender.tick());

    expect(await standing(old)).toMatchObject({ outcome: 'gave_up', status: 503 })
    expect(calls).toHaveLength(5)
  })

  test('two relays on one database share the work: nothing is sent twice', async () => {
    const { url, calls } = await receiver(answering(200))
    for (let seq = 0; seq < 40; seq++) await owe(`${url}/${seq}`, seq)
    const relays = [relay(), relay()]

    while ((await Promise.all(relays.map((one) => one.tick()))).includes(true));

    expect(new Set(calls.map((call) => call.headers['webhook-id'])).size).toBe(40)
    expect(calls).toHaveLength(40)
  })
})

describe('a crash', () => {
  test('between send and record: the delivery is made again when the claim is over, with the same bytes', async () => {
    const { url, calls, called } = await receiver(answering(200))
    const id = await owe(url)
    const crashed = createRelayThatDies('delivery.sent')
    void crashed.tick()
    await called(1)
    const next = relay()

    clock.advance(59_999)
    expect(await next.tick()).toBe(false)
    clock.advance(1)
    expect(await next.tick()).toBe(true)

    expect(calls.map(({ headers, body }) => [headers['webhook-id'], body])).toEqual([
      ['evt_1', envelope(1)],
      ['evt_1', envelope(1)],
    ])
    expect(await standing(id)).toMatchObject({ outcome: 'delivered', attempts: 1 })
  })

  test('a relay that was only slow does not undo what another has recorded', async () => {
    const { url, called } = await receiver(answering(500, 200))
    const id = await owe(url)
    let goOn: () => void = () => undefined
    const errors: string[] = []
    const log = { warn: () => undefined, error: (_facts: object, sentence: string) => errors.push(sentence) }
    const slow = relay({
      log,
      pause: (name) => pauseAt('delivery.sent', name, (resolve) => (goOn = resolve)),
    })
    const late = slow.tick()
    await called(1)
    clock.advance(MINUTE)
    await relay().tick()

    goOn()
    await late

    expect(await standing(id)).toMatchObject({ outcome: 'delivered', attempts: 1, status: 200 })
    expect(await database.query('select n, status from delivery_attempt')).toEqual([{ n: 1, status: 200 }])
    expect(errors).toEqual([])
  })

  const pauseAt = (place: string, name: string, hold: (resolve: () => void) => void): Promise<void> =>
    name === place ? new Promise(hold) : Promise.resolve()

  /** Stands still for ever at a race point, and is not closed: what a killed process looks like from outside. */
  const createRelayThatDies = (place: string): Relay =>
    createRelay({ ...parts(), pause: (name) => pauseAt(place, name, () => undefined) })
})
