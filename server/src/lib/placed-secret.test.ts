import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isPlacedSecret, placedSecrets } from './placed-secret.ts'

/** More than one rule may tell the same. */
const found = (text: string): string[] => [
  ...new Set(placedSecrets(text).map(({ from, to }) => text.slice(from, to))),
]

describe('a password made of words is found by its place', () => {
  test.each([
    ['hunter2horse', 'password = hunter2horse'],
    ['hunter2horse', '12\tdb_password = hunter2horse\r'],
    ['correct-horse', 'DB_PASSWORD: correct-horse'],
    ['correct-horse', '+  password: correct-horse # of staging'],
    ['correct-horse', 'config/app.yml:3:  password: correct-horse'],
    ['correct-horse', 'spring.datasource.password=correct-horse'],
    ['swordfish', '  - MYSQL_PASSWORD=swordfish'],
    ['swordfish', 'PGPASSWORD=swordfish psql app'],
    ['open-sesame', 'export CLIENT_SECRET="open-sesame"'],
    ['correct-horse', '{"password": "correct-horse"}'],
    ['hunter2horse', '{\\"password\\":\\"hunter2horse\\"}'],
    ['hunter2horse', '<password>hunter2horse</password>'],
    ['swordfish', 'Authorization: Bearer swordfish'],
    ['swordfish', 'curl -H "Authorization: Bearer swordfish" https://example.org'],
    ['dXNlcjp3b3Jk', 'Proxy-Authorization: Basic dXNlcjp3b3Jk'],
    ['word', 'postgres://user:word@host/db'],
    ['wonderland', 'remote: https://alice:wonderland@git.example.org/app.git'],
    ['correct-horse', 'redis://:correct-horse@cache:6379'],
    ['word', 'curl -u user:word https://example.org'],
    ['wonder1', 'curl -sS --user "alice:wonder1" https://example.org'],
    ['hunter2', 'mysql -h db -phunter2 app'],
    ['swordfish', 'sshpass -p swordfish ssh me@host'],
    ['swordfish', 'mysqldump --password=swordfish app'],
    ['hunter2horse', 'migrate --db-password hunter2horse up'],
  ])('%s in %s', (password, line) => {
    expect(found(line)).toEqual([password])
    expect(found(`before\n${line}\nafter`)).toEqual([password])
  })
})

describe('what is no password stays', () => {
  test.each([
    [
      'code',
      'password = getPassword()',
      'password = sha256(salt)',
      'password = form.password',
      "password = request.form['password']",
      'password = newPassword;',
      'password = hashedInput',
      'password: hash2,',
      'password: str = Field(min_length=8)',
      'password: z.string().min(8)',
      'const { password } = request.body',
      'if (password === user.password) return',
      'DB_PASSWORD = process.env.DB_PASSWORD',
      'MIN_PASSWORD_LENGTH = 12',
      'MAX_PASSWORD=128',
      "WRONG_PASSWORD = 'wrong_credentials'",
      "Authorization: 'Bearer ' + token",
      'headers.authorization = `Bearer ${accessToken}`',
      'reset_password: /users/password/reset-it',
      'reset_password = "users#reset2"',
      'const password = "hunter2horse"',
      "signIn({ user: 'ada', password: 'hunter2horse' })",
    ],
    [
      'types and empty values',
      'password: string',
      'password: string;',
      'password?: string | null',
      '"password": "string"',
      'DB_PASSWORD: string',
      'password = None',
      'token: null',
      'password = ""',
    ],
    [
      'forms and labels',
      "password: 'Passwort'",
      '"password": "Wachtwoord"',
      "password: 'required|min:8'",
      "password: 'form-control'",
      '<input type="password" name="password" autocomplete="current-password">',
      'Enter your password: ********',
    ],
    [
      'stand-ins',
      'DB_PASSWORD=changeme',
      'DB_PASSWORD=postgres',
      'DB_PASSWORD=$OTHER_PASSWORD',
      'DB_PASSWORD=${DB_PASSWORD}',
      'password: test1234',
      'password=your-own-password',
      'Authorization: Bearer <token>',
      'Authorization: Bearer YOUR_API_KEY',
      'Authorization: Bearer my-token',
      'postgres://user:password@localhost/db',
      'postgres://postgres:postgres@localhost:5432/postgres',
      'https://user:${PASS}@example.org',
      'curl -u user:$PASS https://example.org',
      'curl -u "$USER:$PASS" https://example.org',
      '      --password string   Password of the account',
      '--password=<password>',
    ],
    [
      'speech',
      'The password: it must be longer than twelve characters.',
      'Authorization: Bearer credentials expire after an hour',
      'use --password instead of --pass',
      'tests pass: 12345678 of 12345678',
      'passport: passport-local2',
      'bypass = always-on2',
    ],
    [
      'other commands and addresses',
      'docker run --user 1000:1000 -u node:group app',
      'mysql -h db -u root -p app',
      'mkdir -p packages2/app',
      'http://localhost:3000/@scope/package',
      'ssh://git@github.com:22/acme/app',
      'PWD=/workspace/packages/server',
      'wget -u http://localhost:8080/logs',
    ],
  ])('%s', (_what, ...lines) => {
    for (const line of lines) expect(found(line), line).toEqual([])
  })
})

const letters = fc.string({
  unit: fc.constantFrom(...'abcdefghijklmnoprstuvwz'.split('')),
  minLength: 4,
  maxLength: 9,
})
const isPlain = (word: string): boolean =>
  new Set(word).size > 3 && !/pass|test|fake|mock|secret|your/.test(word)
const word = letters.filter(isPlain)

test('any two words and a figure are found in every place', () => {
  const password = fc
    .tuple(word, fc.constantFrom('-', '_', '!'), word, fc.nat(99))
    .map((parts) => parts.join(''))
  fc.assert(
    fc.property(password, (value) => {
      const places = [
        `password = ${value}`,
        `DB_PASSWORD=${value}`,
        `"password": "${value}"`,
        `Authorization: Bearer ${value}`,
        `ftp://me:${value}@host`,
        `curl -u me:${value} host`,
        `tool --password ${value}`,
      ]
      for (const place of places) expect(found(place), place).toEqual([value])
      expect(isPlacedSecret('password', value)).toBe(true)
    }),
  )
})

test('no call, member or name in code is taken for one', () => {
  const name = fc.tuple(word, word).map(([a, b]) => `${a}${b.charAt(0).toUpperCase()}${b.slice(1)}`)
  const code = fc.oneof(
    name,
    name.map((one) => `${one}()`),
    fc.tuple(word, name).map((parts) => parts.join('.')),
    fc.tuple(word, name).map(([a, b]) => `${a}.${b}(2)`),
    fc.tuple(word, fc.nat(99)).map(([a, n]) => `${a}[${n}]`),
  )
  fc.assert(
    fc.property(
      code,
      fc.constantFrom(' = ', ': ', '='),
      fc.constantFrom('', ';', ','),
      (value, sign, end) => {
        for (const name of ['password', 'user_password', 'this.password'])
          expect(found(`  ${name}${sign}${value}${end}`)).toEqual([])
      },
    ),
  )
})

test('the value of a member is judged as it would be in JSON', () => {
  expect(isPlacedSecret('dbPassword', 'correct-horse')).toBe(true)
  for (const value of ['string', 'changeme', 'Passwort', '${PASS}', 'two words', 'short', '12345678'])
    expect(isPlacedSecret('dbPassword', value), value).toBe(false)
  expect(isPlacedSecret('title', 'correct-horse')).toBe(false)
})

test('a megabyte of almost-passwords takes no longer than a megabyte', () => {
  const started = performance.now()
  const parts = [
    'password=',
    'A_',
    '://a:',
    '://a:aaaa',
    'curl -u a:',
    'mysql -',
    'password: "',
    '<password>a',
    `${' '.repeat(64)}A_PASSWORD: ${'#'.repeat(128)}${'x'.repeat(520)}\n`,
  ]
  for (const part of parts) placedSecrets(part.repeat(Math.ceil(300_000 / part.length)))
  expect(performance.now() - started).toBeLessThan(30_000)
}, 60_000)
