/** The only reader of the environment: flat variables in, nested values out, all mistakes reported together. */
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Provider, type ProviderKind, readPrices } from './config-values.ts'
import { VARIABLES, type VariableName } from './config-variables.ts'
import type { PriceBook } from './domain/money.ts'
import { MICRO_PER_CREDIT } from './domain/money.ts'
import { Secret } from './lib/secret.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** Of this process; whoever needs a value of it is given the value. */
export const processEnvironment = (): Environment => process.env

export type Role = 'all' | 'api' | 'worker'

export interface Config {
  role: Role
  host: string
  port: number
  /** False for a worker that was given no port. */
  listens: boolean
  logLevel: string
  databaseUrl: Secret | null
  dataDir: string
  masterKey: Secret | null
  publicUrl: string | null
  providers: Record<string, Provider>
  models: string[]
  maxOutputTokens: number
  prices: PriceBook
  initialCredits: number
  maxConcurrentRuns: number
  maxConcurrentRunsPerTenant: number | null
  maxConcurrentRunsPerAgent: number | null
  maxQueuedRuns: number
  slots: number
  jailSlots: number
  /** Uid and gid of the first jail slot; the others follow. */
  jailUid: number
  jail: 'bubblewrap' | 'none'
  allowedPrivateHosts: string[]
  githubHosts: Record<string, string>
  setupHosts: string[]
  diskLimitBytes: number
  minDiskBytes: number
  /** `null` keeps for ever. */
  retentionMs: number | null
  rates: { reads: number; writes: number; submissions: number; control: number }
  leaseMs: number
  drainMs: number
}

/** All mistakes of an environment at once; the program ends with exit code 78. */
export class ConfigInvalid extends Error {
  override readonly name = 'ConfigInvalid'
  readonly mistakes: readonly string[]
  constructor(mistakes: readonly string[]) {
    super(mistakes.join('\n'))
    this.mistakes = mistakes
  }
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** Throws `ConfigInvalid`. */
export function readConfig(environment: Environment): Config {
  const mistakes: string[] = []
  const known = new Set<string>(VARIABLES.map(({ name }) => name))
  for (const name of Object.keys(environment)) {
    if (/^AGENTGATE_(?!TEST_|API_KEY$|BASE_URL$|WEBHOOK_SECRET$|SEEDS$)/.test(name) && !known.has(name)) {
      mistakes.push(`${name} is not a setting of this program; docs/config.md lists them.`)
    }
  }
  const read = reader(environment, mistakes)
  const databaseUrl = read.secret('DATABASE_URL')
  const masterKey = read.secret('AGENTGATE_MASTER_KEY')
  if (databaseUrl && !/^postgres(ql)?:\/\//.test(databaseUrl.reveal())) {
    mistakes.push('DATABASE_URL must begin with postgres:// or postgresql://.')
  }
  if (databaseUrl && !masterKey) {
    mistakes.push('AGENTGATE_MASTER_KEY must be given with DATABASE_URL: base64 of 32 random bytes.')
  }
  if (masterKey && Buffer.from(masterKey.reveal(), 'base64').length !== 32) {
    mistakes.push('AGENTGATE_MASTER_KEY must be base64 of exactly 32 bytes.')
  }
  const providers = readProviders(read)
  const role = read.choice('AGENTGATE_ROLE', ['all', 'api', 'worker'])
  const retentionDays = read.number('AGENTGATE_RETENTION_DAYS', { min: 0, max: 36_500 })
  const config: Config = {
    role,
    host: read.text('HOST') ?? '127.0.0.1',
    port: read.number('PORT', { min: 0, max: 65_535 }),
    listens: role !== 'worker' || read.text('PORT') !== null,
    logLevel: read.choice('LOG_LEVEL', ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']),
    databaseUrl,
    dataDir: resolve(read.text('AGENTGATE_DATA_DIR') ?? join(ROOT, '.agentgate')),
    masterKey,
    publicUrl: read.url('AGENTGATE_PUBLIC_URL'),
    providers,
    models: read.list('AGENTGATE_MODELS') ?? defaultModels(providers),
    maxOutputTokens: read.number('AGENTGATE_MAX_OUTPUT_TOKENS', { min: 256, max: 200_000 }),
    prices: readPrices(
      {
        models: read.json('AGENTGATE_PRICES'),
        unpriced: read.json('AGENTGATE_PRICE_UNPRICED'),
        perMinute: read.number('AGENTGATE_PRICE_PER_MINUTE', { min: 0, max: 10_000, whole: false }),
      },
      mistakes,
    ),
    initialCredits: read.number('AGENTGATE_INITIAL_CREDITS', {
      min: 0,
      max: Number.MAX_SAFE_INTEGER / MICRO_PER_CREDIT,
    }),
    maxConcurrentRuns: read.number('AGENTGATE_MAX_CONCURRENT_RUNS', { min: 1, max: 1_000_000 }),
    maxConcurrentRunsPerTenant: read.cap('AGENTGATE_MAX_CONCURRENT_RUNS_PER_TENANT'),
    maxConcurrentRunsPerAgent: read.cap('AGENTGATE_MAX_CONCURRENT_RUNS_PER_AGENT'),
    maxQueuedRuns: read.number('AGENTGATE_MAX_QUEUED_RUNS', { min: 1, max: 100_000_000 }),
    slots: read.number('AGENTGATE_SLOTS', { min: 1, max: 10_000 }),
    jailSlots: read.number('AGENTGATE_JAIL_SLOTS', { min: 1, max: 1_000 }),
    // Above the embedded server's user; all slots end below `nobody`.
    jailUid: read.number('AGENTGATE_JAIL_UID', { min: 60_001, max: 64_000 }),
    jail: read.choice('AGENTGATE_JAIL', ['bubblewrap', 'none']),
    allowedPrivateHosts: read.list('AGENTGATE_ALLOWED_PRIVATE_HOSTS') ?? [],
    githubHosts: readPairs(read.list('AGENTGATE_GITHUB_HOSTS') ?? [], mistakes),
    setupHosts: (read.list('AGENTGATE_SETUP_HOSTS') ?? fallbackOf('AGENTGATE_SETUP_HOSTS').split(',')).filter(
      (host) => host !== "''" && host !== '""',
    ),
    diskLimitBytes: read.number('AGENTGATE_DISK_LIMIT_MB', { min: 1, max: 1_000_000 }) * 2 ** 20,
    minDiskBytes: read.number('AGENTGATE_MIN_DISK_MB', { min: 0, max: 100_000_000 }) * 2 ** 20,
    retentionMs: retentionDays === 0 ? null : retentionDays * 86_400_000,
    rates: {
      reads: read.number('AGENTGATE_RATE_READS', { min: 1, max: 10_000_000 }),
      writes: read.number('AGENTGATE_RATE_WRITES', { min: 1, max: 10_000_000 }),
      submissions: read.number('AGENTGATE_RATE_SUBMISSIONS', { min: 1, max: 10_000_000 }),
      control: read.number('AGENTGATE_RATE_CONTROL', { min: 1, max: 10_000_000 }),
    },
    leaseMs: read.number('AGENTGATE_LEASE_SECONDS', { min: 1, max: 600 }) * 1000,
    drainMs: read.number('AGENTGATE_DRAIN_SECONDS', { min: 1, max: 3_600 }) * 1000,
  }
  if (mistakes.length > 0) throw new ConfigInvalid(mistakes)
  return config
}

function readProviders(read: Reader): Record<string, Provider> {
  const providers: Record<string, Provider> = {}
  const add = (name: string, kind: ProviderKind, names: { key: VariableName; url: VariableName }): void => {
    const apiKey = read.secret(names.key)
    const baseUrl = read.url(names.url)
    if (apiKey !== null || (kind === 'openai-compatible' && baseUrl !== null)) {
      providers[name] = {
        kind,
        apiKey: apiKey ?? new Secret('none'),
        ...(baseUrl === null ? {} : { baseUrl }),
      }
    }
  }
  add('openai', 'openai', { key: 'OPENAI_API_KEY', url: 'AGENTGATE_OPENAI_BASE_URL' })
  add('openai-chat', 'openai-chat', { key: 'OPENAI_API_KEY', url: 'AGENTGATE_OPENAI_BASE_URL' })
  add('anthropic', 'anthropic', { key: 'ANTHROPIC_API_KEY', url: 'AGENTGATE_ANTHROPIC_BASE_URL' })
  add('compatible', 'openai-compatible', {
    key: 'AGENTGATE_COMPATIBLE_API_KEY',
    url: 'AGENTGATE_COMPATIBLE_BASE_URL',
  })
  return providers
}

const DEFAULT_MODELS: Record<string, string> = {
  openai: 'openai/gpt-5',
  anthropic: 'anthropic/claude-sonnet-4-5',
}

const defaultModels = (providers: Record<string, Provider>): string[] =>
  Object.keys(providers).flatMap((name) => DEFAULT_MODELS[name] ?? [])

function readPairs(entries: readonly string[], mistakes: string[]): Record<string, string> {
  return Object.fromEntries(
    entries.flatMap((entry) => {
      const at = entry.indexOf('=')
      const url = entry.slice(at + 1)
      if (at > 0 && URL.canParse(url)) return [[entry.slice(0, at), url]]
      mistakes.push(`AGENTGATE_GITHUB_HOSTS: "${entry}" is not host=apiBaseUrl.`)
      return []
    }),
  )
}

const fallbackOf = (name: VariableName): string =>
  VARIABLES.find((variable) => variable.name === name)?.fallback ?? ''

/** What the command line reads besides the settings of the server. */
export interface CommandLineSettings {
  /** AGENTGATE_API_KEY and AGENTGATE_BASE_URL, the same as the SDK reads. */
  apiKey: Secret | null
  baseUrl: string | null
  /** GITHUB_TOKEN, for the demo on a repository of the user's own. */
  githubToken: Secret | null
  /** Unless NO_COLOR says otherwise. */
  wantsColour: boolean
  /** npm keeps signals to itself: whoever runs under it has to watch it. */
  isUnderNpm: boolean
}

export function readCommandLineSettings(environment: Environment): CommandLineSettings {
  const text = (name: string): string | null => environment[name]?.trim() || null
  const secret = (name: string): Secret | null => {
    const value = text(name)
    return value === null ? null : new Secret(value)
  }
  return {
    apiKey: secret('AGENTGATE_API_KEY'),
    baseUrl: text('AGENTGATE_BASE_URL'),
    githubToken: secret('GITHUB_TOKEN'),
    wantsColour: text('NO_COLOR') === null && text('TERM') !== 'dumb',
    isUnderNpm: text('npm_lifecycle_event') !== null,
  }
}

type Reader = ReturnType<typeof reader>

function reader(environment: Environment, mistakes: string[]) {
  const text = (name: VariableName): string | null => environment[name]?.trim() || null
  return {
    text,
    secret: (name: VariableName): Secret | null => {
      const value = text(name)
      return value === null ? null : new Secret(value)
    },
    list: (name: VariableName): string[] | null =>
      text(name)
        ?.split(',')
        .map((each) => each.trim())
        .filter((each) => each !== '') ?? null,
    url(name: VariableName): string | null {
      const value = text(name)
      if (value === null || /^https?:\/\//.test(value)) return value?.replace(/\/+$/, '') ?? null
      mistakes.push(`${name} must be an http or https URL, not "${value}".`)
      return null
    },
    number(
      name: VariableName,
      { min, max, whole = true }: { min: number; max: number; whole?: boolean },
    ): number {
      const value = text(name) ?? fallbackOf(name)
      const number = Number(value)
      if (Number.isFinite(number) && number >= min && number <= max && (!whole || Number.isInteger(number)))
        return number
      mistakes.push(`${name} must be a ${whole ? 'whole ' : ''}number from ${min} to ${max}, not "${value}".`)
      return min
    },
    cap(name: VariableName): number | null {
      return text(name) === null ? null : this.number(name, { min: 1, max: 1_000_000 })
    },
    choice<C extends string>(name: VariableName, choices: readonly [C, ...C[]]): C {
      const value = text(name) ?? fallbackOf(name)
      const found = choices.find((choice) => choice === value)
      if (found !== undefined) return found
      mistakes.push(`${name} must be one of ${choices.join(', ')}, not "${value}".`)
      return choices[0]
    },
    json(name: VariableName): unknown {
      const value = text(name) ?? fallbackOf(name)
      try {
        return JSON.parse(value)
      } catch {
        mistakes.push(`${name} must be JSON.`)
        return {}
      }
    },
  }
}

/** docs/config.md, generated. */
export const configMarkdown = (): string =>
  [
    '# Settings',
    '',
    'Everything has a default; an empty value counts as missing. All mistakes are reported together, with exit code 78.',
    'This page is generated from `server/src/config.ts`.',
    '',
    '| Variable | Default | Meaning |',
    '| --- | --- | --- |',
    ...VARIABLES.map(
      ({ name, fallback, sentence }) =>
        `| \`${name}\` | ${fallback.replaceAll('|', '\\|')} | ${sentence.replaceAll('|', '\\|')} |`,
    ),
    '',
  ].join('\n')

/** example.env, generated. */
export const exampleEnvironment = (): string =>
  `${VARIABLES.map(({ name, fallback, sentence }) => `# ${sentence}\n# Default: ${fallback}\n#${name}=`).join('\n\n')}\n`
