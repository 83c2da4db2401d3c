import { Webhook } from 'standardwebhooks'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Clock, systemClock } from '../../src/lib/clock.ts'
import { type Cases, startCases } from '../harness/cases.ts'
import { type Received, typeOf } from '../harness/receiver.ts'

/** The first retry comes after five seconds, give or take a tenth. */
const RETRY_MS = 6_000

let cases: Cases
let skippedMs = 0
beforeAll(async () => {
  const clock: Clock = {
    ...systemClock,
    now: () => systemClock.now() + skippedMs,
    monotonic: () => systemClock.monotonic() + skippedMs,
  }
  cases = await startCases([], {}, { clock })
})
afterAll(() => cases[Symbol.asyncDispose]())

const idOf = ({ headers }: Received): string => String(headers['webhook-id'])
const seqOf = ({ body }: Received): number => JSON.parse(body).seq
const bySeq = (a: Received, b: Received): number => seqOf(a) - seqOf(b)

test('a receiver that was down gets every event again, with the same id and the same bytes', async () => {
  const { gate, receiver } = cases.here
  receiver.answerWith(500, 503, 500)
  const run = await cases.run({
    repository: 'http://127.0.0.1:9/acme/project',
    webhookUrl: `${receiver.url}?of=orders`,
    metadata: { ticket: 'T-1', nothing: null },
  })
  await expect.poll(() => receiver.received.length, { timeout: 20_000 }).toBe(3)

  skippedMs = RETRY_MS
  gate.app.relay.wake()

  await expect.poll(() => receiver.received.length, { timeout: 20_000 }).toBe(6)
  const first = receiver.received.slice(0, 3).toSorted(bySeq)
  const second = receiver.received.slice(3).toSorted(bySeq)
  expect(first.map(typeOf)).toEqual(['run.created', 'run.started', 'run.failed'])
  expect(second.map(idOf)).toEqual(first.map(idOf))
  expect(second.map(({ body }) => body)).toEqual(first.map(({ body }) => body))

  const verifier = new Webhook(gate.webhookSecret)
  for (const { body, headers, path } of receiver.received) {
    const signed = ['webhook-id', 'webhook-timestamp', 'webhook-signature'].map((name) => [
      name,
      String(headers[name]),
    ])
    expect(verifier.verify(body, Object.fromEntries(signed))).toMatchObject({ runId: run.id })
    expect(() => verifier.verify(`${body} `, Object.fromEntries(signed))).toThrow()
    expect(path).toBe('/hooks?of=orders')
  }
  const events = await cases.events(run.id)
  expect(first.map(({ body }) => JSON.parse(body))).toEqual(events)
  expect(events.at(-1)?.data).toMatchObject({ metadata: { ticket: 'T-1', nothing: null }, status: 'failed' })
})
