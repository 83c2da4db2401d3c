import { Webhook } from 'standardwebhooks'
import { afterEach, describe, expect, test, vi } from 'vitest'
import fixtures from '../../fixtures/signatures.json' with { type: 'json' }
import { createVerifier, unwrapWebhook, verifySignature, WebhookVerificationError } from '../src/index.ts'

afterEach(() => {
  vi.useRealTimers()
})

const setTime = (seconds: number): void => {
  vi.useFakeTimers({ toFake: ['Date'], now: seconds * 1000 })
}

const presentHeaders = (headers: Record<string, string | undefined>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value ?? '']))

describe('verifySignature', () => {
  test.each(fixtures.agentgate)('$title → $valid', ({ body, header, secret, valid }) => {
    expect(verifySignature(body, header ?? undefined, secret)).toBe(valid)
    expect(verifySignature(Buffer.from(body), header ?? undefined, secret)).toBe(valid)
  })

  test('says false to what the types forbid, and never throws', () => {
    const header = fixtures.agentgate[0]?.header
    for (const odd of [undefined, null, 1, {}, [], Symbol('x')]) {
      expect(Reflect.apply(verifySignature, undefined, [odd, header, 'secret'])).toBe(false)
      expect(Reflect.apply(verifySignature, undefined, ['body', odd, 'secret'])).toBe(false)
      expect(Reflect.apply(verifySignature, undefined, ['body', header, odd])).toBe(false)
    }
  })
})

describe('createVerifier', () => {
  const good = fixtures.agentgate[0]
  const verify = createVerifier(good?.secret ?? '')
  const header = good?.header ?? ''

  test('reads the raw body and the header in any case', () => {
    const rawBody = good?.body
    expect(verify({ rawBody, headers: { 'X-AgentGate-Signature': header } })).toBe(true)
    expect(verify({ rawBody, headers: { 'x-agentgate-signature': [header] } })).toBe(true)
    expect(verify({ rawBody, headers: new Headers({ 'X-AGENTGATE-SIGNATURE': header }) })).toBe(true)
  })

  test('says false without a raw body or a header', () => {
    expect(verify({ headers: { 'x-agentgate-signature': header } })).toBe(false)
    expect(verify({ rawBody: good?.body, headers: {} })).toBe(false)
  })
})

describe('unwrapWebhook', () => {
  test.each(fixtures.standard)('$title → $valid', ({ body, headers, secret, now, valid }) => {
    setTime(now)
    const unwrap = () => unwrapWebhook(body, presentHeaders(headers), secret)
    if (valid) expect(unwrap()).toEqual(JSON.parse(body))
    else expect(unwrap).toThrow(WebhookVerificationError)
  })

  test.each(fixtures.standard)('agrees with the reference implementation: $title', (fixture) => {
    setTime(fixture.now)
    const verify = () => new Webhook(fixture.secret).verify(fixture.body, presentHeaders(fixture.headers))
    if (fixture.valid) expect(verify()).toEqual(JSON.parse(fixture.body))
    else expect(verify).toThrow()
  })

  test('accepts what the reference implementation signs', () => {
    const secret = fixtures.standard[0]?.secret ?? ''
    const now = new Date()
    const body = JSON.stringify({ id: 'evt_1', type: 'run.created', data: {} })
    const headers = {
      'Webhook-Id': 'evt_1',
      'Webhook-Timestamp': String(Math.floor(now.getTime() / 1000)),
      'Webhook-Signature': new Webhook(secret).sign('evt_1', now, body),
    }
    expect(unwrapWebhook(body, headers, secret)).toMatchObject({ type: 'run.created' })
    expect(unwrapWebhook(Buffer.from(body), new Headers(headers), secret)).toMatchObject({ id: 'evt_1' })
  })

  test('takes another tolerance, and refuses one that is not a number', () => {
    const fixture = fixtures.standard[0]
    const [body, headers, secret] = [
      fixture?.body ?? '',
      presentHeaders(fixture?.headers ?? {}),
      fixture?.secret ?? '',
    ]
    setTime((fixture?.now ?? 0) + 900)
    expect(unwrapWebhook(body, headers, secret, { tolerance: 900 })).toBeDefined()
    expect(() => unwrapWebhook(body, headers, secret, { tolerance: Number.NaN })).toThrow(
      WebhookVerificationError,
    )
  })

  test('refuses a signed body that is not an event', () => {
    const secret = fixtures.standard[0]?.secret ?? ''
    for (const body of ['not json', '[]', '{"id":"evt_1"}']) {
      const now = new Date()
      const headers = {
        'webhook-id': 'evt_1',
        'webhook-timestamp': String(Math.floor(now.getTime() / 1000)),
        'webhook-signature': new Webhook(secret).sign('evt_1', now, body),
      }
      expect(() => unwrapWebhook(body, headers, secret)).toThrow(WebhookVerificationError)
    }
  })

  test('refuses a secret that decodes to nothing, which anybody could sign with', () => {
    const fixture = fixtures.standard[0]
    setTime(fixture?.now ?? 0)
    expect(() =>
      unwrapWebhook(fixture?.body ?? '', presentHeaders(fixture?.headers ?? {}), 'whsec_'),
    ).toThrow('The secret is empty.')
  })
})
