/** What may be set from outside, as people read about it. */
export interface Variable {
  name: string
  /** As text, or what happens without it. */
  fallback: string
  sentence: string
  isSecret?: true
}

/** Every variable there is. An empty value counts as missing. */
export const VARIABLES = [
  { name: 'HOST', fallback: '127.0.0.1', sentence: 'Address to listen on.' },
  { name: 'PORT', fallback: '8080', sentence: 'Port to listen on; 0 takes a free one.' },
  { name: 'LOG_LEVEL', fallback: 'info', sentence: 'One of fatal, error, warn, info, debug, trace, silent.' },
  {
    name: 'DATABASE_URL',
    fallback: 'an embedded PostgreSQL in the data folder',
    sentence: 'PostgreSQL 15 or newer, reached directly or through a session pooler.',
    isSecret: true,
  },
  {
    name: 'AGENTGATE_DATA_DIR',
    fallback: '.agentgate beside the program',
    sentence: 'Folder for the embedded database, keys, repositories and workspaces.',
  },
  {
    name: 'AGENTGATE_MASTER_KEY',
    fallback: 'a file in the data folder (embedded database only)',
    sentence: 'Base64 of 32 bytes that stored credentials are sealed with; must be given with DATABASE_URL.',
    isSecret: true,
  },
  {
    name: 'AGENTGATE_PUBLIC_URL',
    fallback: 'http://HOST:PORT',
    sentence: 'Where clients and people reach this server; used in links.',
  },
  { name: 'OPENAI_API_KEY', fallback: 'none', sentence: 'Key for models named openai/… .', isSecret: true },
  {
    name: 'AGENTGATE_OPENAI_BASE_URL',
    fallback: 'https://api.openai.com/v1',
    sentence: 'Base URL of the OpenAI API, for proxies.',
  },
  {
    name: 'ANTHROPIC_API_KEY',
    fallback: 'none',
    sentence: 'Key for models named anthropic/… .',
    isSecret: true,
  },
  {
    name: 'AGENTGATE_ANTHROPIC_BASE_URL',
    fallback: 'https://api.anthropic.com/v1',
    sentence: 'Base URL of the Anthropic API, for proxies.',
  },
  {
    name: 'AGENTGATE_COMPATIBLE_BASE_URL',
    fallback: 'none',
    sentence: 'Base URL of an OpenAI-compatible endpoint, for models named compatible/… .',
  },
  {
    name: 'AGENTGATE_COMPATIBLE_API_KEY',
    fallback: 'none',
    sentence: 'Key of the OpenAI-compatible endpoint.',
    isSecret: true,
  },
  {
    name: 'AGENTGATE_MODELS',
    fallback: 'the default model of each provider with a key',
    sentence: 'Models of the coder, comma-separated, in the order to try them: provider/model.',
  },
  {
    name: 'AGENTGATE_MAX_OUTPUT_TOKENS',
    fallback: '8192',
    sentence: 'Most tokens a model may answer in one step.',
  },
  {
    name: 'AGENTGATE_PRICES',
    fallback: '{}',
    sentence:
      'JSON of credits per thousand tokens by model: {"openai/x":{"input":0.1,"output":0.4,"cached":0.01}}.',
  },
  {
    name: 'AGENTGATE_PRICE_UNPRICED',
    fallback: '{"input":0.5,"output":2,"cached":0.05}',
    sentence: 'Credits per thousand tokens of a model without a price; such costs are marked estimated.',
  },
  { name: 'AGENTGATE_PRICE_PER_MINUTE', fallback: '0.1', sentence: 'Credits per minute of work.' },
  {
    name: 'AGENTGATE_INITIAL_CREDITS',
    fallback: '10000',
    sentence: 'Credits granted to the organisation that the first start makes.',
  },
  {
    name: 'AGENTGATE_MAX_CONCURRENT_RUNS',
    fallback: '10',
    sentence: 'Runs an organisation may have at work at once, in each mode; the next one queues.',
  },
  {
    name: 'AGENTGATE_MAX_CONCURRENT_RUNS_PER_TENANT',
    fallback: 'no cap of its own',
    sentence: 'Runs each tenant of an organisation may have at work at once, in each mode.',
  },
  {
    name: 'AGENTGATE_MAX_CONCURRENT_RUNS_PER_AGENT',
    fallback: 'no cap of its own',
    sentence: 'Runs each agent of an organisation may have at work at once, in each mode.',
  },
  {
    name: 'AGENTGATE_MAX_QUEUED_RUNS',
    fallback: '10000',
    sentence: 'Runs an organisation may have waiting, in each mode; more are refused with QUEUE_FULL.',
  },
  {
    name: 'AGENTGATE_ROLE',
    fallback: 'all',
    sentence:
      'all, api (takes orders, works on none) or worker (works; no HTTP but health and metrics, and those only where PORT is given).',
  },
  { name: 'AGENTGATE_SLOTS', fallback: '64', sentence: 'Runs this process works on at once.' },
  {
    name: 'AGENTGATE_JAIL_SLOTS',
    fallback: '16',
    sentence: 'Work orders this process has a jail for at once; as root each has a uid of its own.',
  },
  {
    name: 'AGENTGATE_JAIL_UID',
    fallback: '60001',
    sentence:
      'Uid and gid of the first jail, as root; the others have the next ones. Nothing else on the machine should use them.',
  },
  {
    name: 'AGENTGATE_JAIL',
    fallback: 'bubblewrap',
    sentence: 'bubblewrap, or none to run agents with the server’s own rights. Only for work you trust.',
  },
  {
    name: 'AGENTGATE_ALLOWED_PRIVATE_HOSTS',
    fallback: 'none',
    sentence:
      'Comma-separated host:port, CIDR or CIDR:port in private ranges that repositories and webhooks may use, also over http.',
  },
  {
    name: 'AGENTGATE_GITHUB_HOSTS',
    fallback: 'none',
    sentence:
      'Further GitHub hosts, comma-separated host=apiBaseUrl, such as git.example.com=https://git.example.com/api/v3.',
  },
  {
    name: 'AGENTGATE_SETUP_HOSTS',
    fallback: 'registry.npmjs.org,pypi.org,files.pythonhosted.org',
    sentence: 'Hosts the setup phase may reach through its proxy; empty text in quotes turns the phase off.',
  },
  {
    name: 'AGENTGATE_DISK_LIMIT_MB',
    fallback: '2048',
    sentence: 'Largest workspace and mirror, in MiB; a run over it ends as disk_limit.',
  },
  {
    name: 'AGENTGATE_MIN_DISK_MB',
    fallback: '512',
    sentence: 'Free space of the data folder, in MiB, below which new runs are refused; 0 never refuses.',
  },
  {
    name: 'AGENTGATE_RETENTION_DAYS',
    fallback: '0',
    sentence: 'Days that events, journal and artifacts of a finished run are kept; 0 keeps them for ever.',
  },
  { name: 'AGENTGATE_RATE_READS', fallback: '1000', sentence: 'Reads per organisation and minute.' },
  { name: 'AGENTGATE_RATE_WRITES', fallback: '100', sentence: 'Writes per organisation and minute.' },
  {
    name: 'AGENTGATE_RATE_SUBMISSIONS',
    fallback: '20',
    sentence: 'Created runs per organisation and minute.',
  },
  { name: 'AGENTGATE_RATE_CONTROL', fallback: '600', sentence: 'Cancels per organisation and minute.' },
  {
    name: 'AGENTGATE_LEASE_SECONDS',
    fallback: '15',
    sentence: 'How long a worker may be silent before its runs are taken over.',
  },
  {
    name: 'AGENTGATE_DRAIN_SECONDS',
    fallback: '20',
    sentence: 'How long a stop waits for work to be handed back.',
  },
] as const satisfies readonly Variable[]

export type VariableName = (typeof VARIABLES)[number]['name']
