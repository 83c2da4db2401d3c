import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { ModelRequest, ModelStep } from '../../../demo/model-server.ts'
import { call, finish, write } from '../harness/cases.ts'
import { type Arena, lackingJail, type Seen, startArena } from './arena.ts'

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

const unique = (): string => randomBytes(20).toString('hex')
const PROVIDER_KEY = `sk-${unique()}`
const MASTER_KEY = randomBytes(32).toString('base64')
const SERVER_VARIABLE = `canary-${unique()}`

/** Wherever a secret could lie that somebody forgot. */
const LOOK = [
  'env; set; export -p; cat /proc/*/environ /proc/*/cmdline 2>&1 | tr "\\0" "\\n"',
  'git config --list --show-origin; git remote -v; cat .git/config; ls -R .git | head -200; git credential fill </dev/null',
  'find /workspace /tmp /run /etc /home -xdev -type f 2>/dev/null | head -200 | xargs cat 2>/dev/null | head -c 60000',
]
const promptWith = (token: string): string => `The token is ${token}. Do #echo it.`

describe.skipIf(lackingJail !== null)('secrets, each with a value that stands nowhere else', () => {
  let arena: Arena
  let repository: string
  const canaries = new Map<string, string>()
  const seen: Seen[] = []
  const sampled = { commands: new Set<string>(), jails: new Set<string>() }

  /** A model that knows what it was told in the prompt, and looks for more. */
  const script = (request: ModelRequest): ModelStep => {
    const token = canaries.get('git credential') ?? ''
    // Nothing is carried out with a secret that is known; one that an agent puts together cannot be known before.
    const made = `echo ${token.split('').toReversed().join('')} | rev`
    const echoes = JSON.stringify(request.body).includes('#echo')
    const steps: ModelStep[] = echoes
      ? [
          {
            ...call('run_command', { command: `${made}; ${made} | base64; ${made} >> notes.txt` }),
            text: `It is ${token}.`,
          },
          call('run_command', { command: `echo ${token} >> more-notes.txt` }),
          write('token.txt', `${token}\n`),
          call('read_file', { path: 'notes.txt' }),
          call('search', { pattern: token }),
          call(`no_such_${token}`, { [token]: token }),
          finish(`The token is ${token}.`),
        ]
      : [...LOOK.map((command) => call('run_command', { command })), write('answer.txt', 'right\n'), finish()]
    return steps[request.assistantTurns] ?? { text: 'Nothing is left to do.' }
  }

  beforeAll(async () => {
    process.env['AGENTGATE_TEST_CANARY'] = SERVER_VARIABLE
    arena = await startArena({ OPENAI_API_KEY: PROVIDER_KEY, AGENTGATE_MASTER_KEY: MASTER_KEY }, script)
    const { gate, host } = arena.here
    const files = {
      'README.md': '# secrets\n',
      Makefile: 'test:\n\tenv; cat /proc/*/environ | tr "\\0" "\\n"\n',
    }
    const access = await host.createRepository({ owner: 'acme', name: 'secrets', files, private: true })
    repository = access.url
    for (const client of [gate.client, gate.testClient])
      await client.gitCredentials.create({
        host: new URL(repository).host,
        kind: 'token',
        use: 'publish',
        secret: access.token,
        apiBaseUrl: access.apiBaseUrl,
      })
    const { secret } = await gate.testClient.webhookSecret.get()
    for (const [name, value] of Object.entries({
      'provider key': PROVIDER_KEY,
      'git credential': access.token,
      'live key': gate.liveKey,
      'test key': gate.testKey,
      'webhook secret': gate.webhookSecret,
      'test webhook secret': secret ?? gate.webhookSecret,
      'master key': MASTER_KEY,
      'variable of the server': SERVER_VARIABLE,
    }))
      canaries.set(name, value)
  })
  afterAll(async () => {
    delete process.env['AGENTGATE_TEST_CANARY']
    await arena?.[Symbol.asyncDispose]()
  })

  test.each(['with a plan', 'without'])(
    'are looked for by an agent, its gates and installers (%s)',
    async (kind) => {
      const setup = [LOOK[0] ?? '']
      const gates = [{ name: 'look', level: 'L1', check: { type: 'command', run: LOOK.join('; ') } }] as const
      const plan = kind === 'without' ? {} : { gatePlan: { setup, gates: [...gates] } }
      const order = { taskPrompt: 'Look for secrets.', webhookUrl: arena.here.receiver.url, ...plan }
      const sampling = setInterval(() => sampleProcesses(sampled), 50)
      try {
        seen.push(await arena.try({ repository, live: true, order }))
      } finally {
        clearInterval(sampling)
      }
      expect(seen.at(-1)?.run).toMatchObject({ state: 'completed', error: null })
    },
  )

  test('are on no command line, and in no environment of a jail', () => {
    expect(sampled.commands.size).toBeGreaterThan(10)
    expect(sampled.jails.size).toBeGreaterThan(0)
    expect(found([...sampled.commands].join('\n'))).toEqual([])
    expect(found([...sampled.jails].join('\n'))).toEqual([])
  })

  test('are given back by a model that was told one', async () => {
    const taskPrompt = promptWith(canaries.get('git credential') ?? '')
    const order = { taskPrompt, webhookUrl: arena.here.receiver.url }
    const told = await arena.try({ repository, live: true, order })
    expect(told.run).toMatchObject({ state: 'completed', output: 'The token is [secret].' })
    expect(told.outcomes[0]?.content).toMatch(/^\[exit code 0[\s\S]*\[secret\]\n\[secret\]/)
    expect(told.outcomes.slice(1, 3)).toMatchObject([{ code: 'not_allowed' }, { code: 'not_allowed' }])
    expect(told.run.delivery).toMatchObject({ likelySecrets: 1 })
    seen.push(told)
  })

  test('are in nothing that the API shows and no webhook carries', () => {
    const shown = seen.map(({ text }) => text).join('\n')
    const sent = arena.here.receiver.received
      .map(({ body, headers }) => body + JSON.stringify(headers))
      .join('\n')
    const prompt = promptWith(canaries.get('git credential') ?? '')
    expect(found(shown.replaceAll(prompt, ''))).toEqual([])
    expect(found(sent.replaceAll(prompt, ''))).toEqual([])
  })

  test('are in no line of the log', () => {
    expect(arena.log()).toContain('"msg"')
    expect(found(arena.log())).toEqual([])
  })

  test('are in no file of the data folder', () => {
    const files = readdirSync(arena.root, { withFileTypes: true, recursive: true }).filter((entry) =>
      entry.isFile(),
    )
    expect(files.length).toBeGreaterThan(5)
    for (const { parentPath, name } of files)
      expect(found(readFileSync(`${parentPath}/${name}`).toString('latin1')), name).toEqual([])
  })

  test('are in no table, apart from the order that one was written into', async () => {
    const { database } = arena.here.gate.app
    const tables = await database.query<{ name: string }>(
      "select quote_ident(tablename) as name from pg_tables where schemaname = 'public' order by 1",
    )
    expect(tables.length).toBeGreaterThan(15)
    const leaks: string[] = []
    const prompt = promptWith(canaries.get('git credential') ?? '')
    for (const { name } of tables) {
      const rows = await database.query<{ text: string }>(`select t::text as text from ${name} t`)
      for (const { text } of rows) {
        for (const what of found(text.replaceAll(prompt, ''))) leaks.push(`${name}: ${what}`)
      }
    }
    expect(leaks).toEqual([])
  })

  /** Which canaries a text holds: as they are, or in base64 or hex. */
  const found = (text: string): string[] =>
    [...canaries]
      .filter(([, value]) => spellings(value).some((one) => text.includes(one)))
      .map(([name]) => name)
})

const spellings = (value: string): string[] => [
  value,
  Buffer.from(value).toString('base64').replaceAll('=', '').slice(0, -2),
  Buffer.from(value).toString('hex'),
]

/** Every command line of the machine, and the environments of processes in a jail. */
function sampleProcesses({ commands, jails }: { commands: Set<string>; jails: Set<string> }): void {
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    try {
      commands.add(readFileSync(`/proc/${pid}/cmdline`, 'latin1'))
      if (readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes('agentgate-'))
        jails.add(readFileSync(`/proc/${pid}/environ`, 'latin1'))
    } catch {
      // It has ended meanwhile.
    }
  }
}
