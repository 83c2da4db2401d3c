import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createRedactor } from './redact.ts'

const TOKEN = 'host_9f2c7a+b/1=z "x'
const { clean, cleanKnown } = createRedactor({ secrets: [TOKEN, 'hunter22', 'ab'] })

describe('a known secret is masked', () => {
  test.each([
    ['as it is', `fatal: ${TOKEN}!`],
    ['twice', `${TOKEN}${TOKEN}`],
    ['in a URL', `https://x:${encodeURIComponent(TOKEN)}@host/a`],
    [
      'in a URL with small hex digits',
      encodeURIComponent(TOKEN).replace(/%../g, (code) => code.toLowerCase()),
    ],
    ['in a form', `token=${encodeURIComponent(TOKEN).replaceAll('%20', '+')}&a=b`],
    ['in JSON', JSON.stringify({ token: TOKEN })],
  ])('%s', (_where, text) => {
    const shown = clean(text)
    expect(shown).toContain('[secret]')
    expect(shown).not.toContain('9f2c7a')
  })

  test.each(['', 'u', 'us', 'user:', 'x-access-token:'])('in base64 behind "%s"', (before) => {
    for (const encoding of ['base64', 'base64url'] as const) {
      const encoded = Buffer.from(`${before}${TOKEN} and more`).toString(encoding)
      const shown = clean(`Authorization: Basic ${encoded}`)
      expect(shown).toContain('[secret]')
      const left = shown.slice(shown.indexOf('Basic ') + 6).replace('[secret]', '')
      expect(Buffer.from(left, encoding).toString()).not.toContain('9f2c7a')
    }
  })

  test('whole, where one secret begins like another', () => {
    const both = createRedactor({ secrets: ['secret-one', 'secret-one-and-two'] })
    expect(both.clean('secret-one-and-two')).toBe('[secret]')
  })
})

test.each([
  ['ghp_', 'ghp_0123456789abcdefghijklmnopqrstuvwxyzAB'],
  ['sk-', 'sk-proj-0123456789abcdefghijklmnopqrstuv-and-still-more'],
  ['org_live_', 'org_live_0123456789abcdefghijklmnop'],
  ['AKIA', 'AKIAIOSFODNN7EXAMPLE'],
  ['MIIE', '-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\ndef\n-----END RSA PRIVATE KEY-----'],
  ['MIIE', '-----BEGIN PRIVATE KEY-----\nMIIEabc cut off'],
])('what is spelled like a key (%s…) is masked to its end', (beginning, key) => {
  const shown = clean(`before ${key}`)
  expect(shown).toBe('before [secret]')
  expect(shown).not.toContain(beginning)
})

test('other text stays as it is', () => {
  const text = 'ab: sk-short, organisation_live, AKIA, git commit 0123456789abcdef0123456789abcdef01234567'
  expect(clean(text)).toBe(text)
})

test('a megabyte of almost-secrets takes no longer than a megabyte', () => {
  const started = performance.now()
  for (const part of ['sk-', '-----BEGIN PRIVATE KEY-----', 'host_9f2c7a+b/1=', '-----BEGIN A ', 'whsec_']) {
    clean(part.repeat(Math.ceil(1_000_000 / part.length)))
  }
  expect(performance.now() - started).toBeLessThan(30_000)
})

const LIKELY = 'DB_PASSWORD=Xk9Qz1Lw8Rt2Pv4M'

test('each way of telling a secret is counted, and guesses are left out where they are not wanted', () => {
  const text = `hunter22 hunter22 AKIAIOSFODNN7EXAMPLE ${LIKELY}`
  const counted: [string, number][] = []
  const options = {
    secrets: ['hunter22'],
    onMasked: (...masked: [string, number]) => void counted.push(masked),
  }
  expect(createRedactor(options).clean(text)).toBe('[secret] [secret] [secret] DB_PASSWORD=[secret]')
  expect(counted.splice(0)).toEqual([
    ['known', 2],
    ['form', 1],
    ['likely', 1],
  ])
  const wary = createRedactor({ ...options, redaction: 'known_only' })
  expect(wary.clean(text)).toBe(`[secret] [secret] AKIAIOSFODNN7EXAMPLE ${LIKELY}`)
  expect(counted).toEqual([['known', 2]])
})

test('folders of this machine are hidden, whatever else is masked', () => {
  for (const redaction of ['on', 'known_only'] as const) {
    const { clean, cleanKnown } = createRedactor({ secrets: [], redaction, folders: ['/var/lib/gate/work'] })
    expect(clean('at /var/lib/gate/work/git, not /var/lib/gate/workers')).toBe(
      'at [host]/git, not /var/lib/gate/workers',
    )
    expect(cleanKnown('/var/lib/gate/work')).toBe('/var/lib/gate/work')
  }
})

test('a value is secret by the name of its member, too', () => {
  expect(clean('Xk9Qz1Lw8Rt2Pv4M', 'apiKey')).toBe('[secret]')
  expect(clean('Xk9Qz1Lw8Rt2Pv4M', 'content')).toBe('Xk9Qz1Lw8Rt2Pv4M')
  expect(clean('correct-horse', 'password')).toBe('[secret]')
  expect(cleanKnown('correct-horse', 'password')).toBe('correct-horse')
  expect(cleanKnown('Xk9Qz1Lw8Rt2Pv4M', 'apiKey')).toBe('Xk9Qz1Lw8Rt2Pv4M')
})

test('a value that two rules tell is masked and counted once', () => {
  const counted: number[] = []
  const { clean } = createRedactor({ secrets: [], onMasked: (_kind, count) => void counted.push(count) })
  expect(clean('DB_PASSWORD=Xk9Qz1Lw8Rt2Pv4M psql postgres://me:open-sesame@db/app')).toBe(
    'DB_PASSWORD=[secret] psql postgres://me:[secret]@db/app',
  )
  expect(counted).toEqual([2])
})

test('masking again changes nothing', () => {
  for (const line of [
    'curl -u user:postgres://user:swordfish@host/dbpassword: x',
    'curl -u alice:swordfish a; curl -u bob:swordfish -u carol:swordfish b',
    'mysql -h db -pswordfish -pswordfish app',
  ]) {
    const once = clean(line)
    expect(once).not.toContain('swordfish')
    expect(clean(once)).toBe(once)
  }
  const piece = fc.oneof(
    fc.constantFrom(
      TOKEN,
      'hunter22',
      LIKELY,
      'password: "',
      'DB_PASSWORD=correct-horse',
      'postgres://user:word@host/db',
      'curl -u user:',
      'Authorization: Bearer ',
      '[secret]',
      '-----BEGIN PRIVATE KEY-----',
      '\n',
    ),
    fc.string(),
    fc.base64String({ minLength: 12, maxLength: 60 }),
  )
  const text = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(''))
  fc.assert(
    fc.property(text, (whole) => {
      const once = clean(whole)
      expect(once).not.toContain('hunter22')
      expect(clean(once)).toBe(once)
    }),
    { numRuns: 500 },
  )
})
