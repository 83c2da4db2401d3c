import fc from 'fast-check'
import { Webhook } from 'standardwebhooks'
import { describe, expect, test } from 'vitest'
import { Secret } from '../lib/secret.ts'
import {
  type Breaker,
  breakerAfter,
  decideDelivery,
  deliveryBody,
  deliveryHeaders,
  isDeliveredType,
  isOpen,
} from './webhook.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const atMs = Date.UTC(2026, 0, 1)

describe('signatures', () => {
  const current = new Secret(`whsec_${Buffer.alloc(32, 1).toString('base64')}`)
  const former = new Secret(`whsec_${Buffer.alloc(32, 2).toString('base64')}`)
  const message = {
    eventId: 'evt_1',
    eventType: 'run.completed',
    body: '{"é":1}',
    secret: { current },
    atMs: Date.now(),
  }
  const accepts = (secret: Secret, headers: Record<string, string>): boolean => {
    try {
      new Webhook(secret.reveal()).verify(message.body, headers)
      return true
    } catch {
      return false
    }
  }

  test('the Standard Webhooks library accepts the delivery, and no other body or secret', () => {
    const headers = deliveryHeaders(message)

    expect(accepts(current, headers)).toBe(true)
    expect(accepts(former, headers)).toBe(false)
    expect(accepts(current, deliveryHeaders({ ...message, body: '{}' }))).toBe(false)
    expect(accepts(current, deliveryHeaders({ ...message, atMs: message.atMs - 10 * MINUTE }))).toBe(false)
  })

  test('the headers are those of the contract', () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

    expect(deliveryHeaders({ ...message, atMs, traceparent })).toEqual({
      'Content-Type': 'application/json',
      'User-Agent': 'AgentGate-Webhooks',
      'X-AgentGate-Event': 'run.completed',
      'X-AgentGate-Signature': 'sha256=061fff5a391af4205b00584c9050e177ac5dbe9131f6e8d305d46a73bbea938f',
      'webhook-id': 'evt_1',
      'webhook-timestamp': '1767225600',
      'webhook-signature': expect.stringMatching(/^v1,[A-Za-z0-9+/]{43}=$/),
      traceparent,
    })
  })

  test('while a rotation lasts, receivers with either secret accept the delivery', () => {
    const secret = { current, previous: { secret: former, untilMs: message.atMs + 1 } }
    const during = deliveryHeaders({ ...message, secret })
    const after = deliveryHeaders({ ...message, secret, atMs: message.atMs + 1 })

    expect([accepts(current, during), accepts(former, during)]).toEqual([true, true])
    expect([accepts(current, after), accepts(former, after)]).toEqual([true, false])
    const plain = 'X-AgentGate-Signature'
    expect(during[plain]).toBe(deliveryHeaders({ ...message, secret: { current: former } })[plain])
    expect(after[plain]).toBe(deliveryHeaders({ ...message, secret: { current } })[plain])
  })
})

describe('the body', () => {
  const envelope = (data: object): string =>
    JSON.stringify({
      id: 'evt_1',
      type: 'run.completed',
      createdAt: 'x',
      mode: 'live',
      runId: 'run_1',
      seq: 9,
      data,
    })

  test('is the stored envelope, byte for byte', () => {
    const text = '{ "id" : "evt_1",\n "data":{"output":"é"} }'

    expect(deliveryBody(text)).toBe(text)
  })

  test('over 64 KB loses the output and says where it is', () => {
    const body = deliveryBody(envelope({ runId: 'run_1', output: 'x'.repeat(70_000), error: null }))

    expect(JSON.parse(body)).toMatchObject({
      id: 'evt_1',
      seq: 9,
      data: { runId: 'run_1', output: null, outputUrl: '/v1/runs/run_1', error: null, truncated: true },
    })
  })

  test('that is still too large keeps what identifies the run', () => {
    const data = { runId: 'run_1', status: 'failed', outputUrl: '/there', metadata: 'x'.repeat(70_000) }

    expect(JSON.parse(deliveryBody(envelope(data))).data).toEqual({
      runId: 'run_1',
      status: 'failed',
      output: null,
      outputUrl: '/there',
      truncated: true,
    })
  })

  test('never exceeds 64 KB and is the same each time', () => {
    fc.assert(
      fc.property(fc.nat({ max: 100_000 }), fc.nat({ max: 100_000 }), (output, toolCalls) => {
        const text = envelope({
          runId: 'run_1',
          output: 'é'.repeat(output),
          toolCalls: 'y'.repeat(toolCalls),
        })
        const body = deliveryBody(text)
        expect(Buffer.byteLength(body)).toBeLessThanOrEqual(65_536)
        expect(deliveryBody(text)).toBe(body)
      }),
      { numRuns: 50 },
    )
  })
})

test('an order hears of its run, not of each step and tool', () => {
  const types = [
    'run.created',
    'run.completed',
    'step.started',
    'tool.requested',
    'delivery.pushed',
    'runs.x',
  ]

  expect(types.filter(isDeliveredType)).toEqual(['run.created', 'run.completed'])
})

describe('what follows from an attempt', () => {
  const after = (status: number | null, attempts: number, retryAfter?: string) =>
    decideDelivery({ answer: { status, retryAfter }, attempts, atMs, jitter: 0.5 })

  test.each([200, 201, 204, 299])('%i is delivered', (status) => {
    expect(after(status, 3)).toEqual({ outcome: 'delivered' })
  })

  test('410 is refused for good', () => {
    expect(after(410, 1)).toEqual({ outcome: 'refused' })
  })

  test('anything else is tried ten times by the schedule, then given up', () => {
    const minutes = [5 / 60, 5, 30, 120, 300, 600, 840, 1200, 1440]
    for (const status of [null, 100, 302, 400, 404, 429, 500, 503]) {
      for (const [index, wait] of minutes.entries()) {
        expect(after(status, index + 1)).toEqual({ retryAtMs: atMs + wait * MINUTE })
      }
      expect(after(status, 10)).toEqual({ outcome: 'gave_up' })
    }
  })

  test('the wait is spread over ten per cent to both sides', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), (jitter) => {
        const decision = decideDelivery({ answer: { status: 500 }, attempts: 2, atMs, jitter })
        const waitMs = 'retryAtMs' in decision ? decision.retryAtMs - atMs : 0
        expect(waitMs).toBeGreaterThanOrEqual(4.5 * MINUTE)
        expect(waitMs).toBeLessThanOrEqual(5.5 * MINUTE)
      }),
    )
  })

  test.each([
    ['60', 60_000],
    ['1', 5_000],
    [new Date(atMs + HOUR).toUTCString(), HOUR],
    [new Date(atMs - HOUR).toUTCString(), 5_000],
    ['999999999999', 24 * HOUR],
    ['soon', 5_000],
    ['-5', 5_000],
    ['', 5_000],
  ])('Retry-After: %s', (header, waitMs) => {
    expect(after(503, 1, header)).toEqual({ retryAtMs: atMs + waitMs })
  })
})

describe('the breaker of an endpoint', () => {
  const after = (statuses: (number | null)[]): Breaker | undefined =>
    statuses.reduce<Breaker | undefined>((breaker, status) => breakerAfter(breaker, status, atMs), undefined)

  test('opens after five failures in a row and pauses longer each time, up to five minutes', () => {
    const pauses = [4, 5, 6, 7, 20].map((count) => {
      const breaker = after(Array<null>(count).fill(null))
      return [isOpen(breaker), (breaker?.pausedUntilMs ?? 0) - atMs]
    })

    expect(pauses).toEqual([
      [false, 0],
      [true, 5_000],
      [true, 10_000],
      [true, 20_000],
      [true, 300_000],
    ])
  })

  test('is closed by any answer of a receiver that is up', () => {
    for (const up of [200, 302, 400, 404, 410]) expect(after([500, 429, null, 503, 500, up])).toBeUndefined()
  })
})
