import { type GitHost, type RepositoryAccess, startGitHost } from '../../../demo/git-host.ts'
import { type ModelScript, type ModelServer, startModelServer } from '../../../demo/model-server.ts'
import { type Gate, type GateOptions, startGate } from './gate.ts'
import { type Receiver, startReceiver } from './receiver.ts'

/** A gate with the neighbours of the main job: a git host, a model and a receiver of webhooks, all on loopback. */
export interface Neighbourhood extends AsyncDisposable {
  gate: Gate
  host: GitHost
  model: ModelServer
  receiver: Receiver
}

export async function startNeighbourhood(
  script: ModelScript,
  { env = {}, ...options }: GateOptions = {},
): Promise<Neighbourhood> {
  const host = await startGitHost()
  const model = await startModelServer({ script })
  const receiver = await startReceiver()
  const hostPort = (url: string): string => new URL(url).host
  const gate = await startGate({
    ...options,
    env: {
      OPENAI_API_KEY: 'sk-scripted',
      AGENTGATE_OPENAI_BASE_URL: model.url,
      AGENTGATE_MODELS: 'openai/scripted',
      AGENTGATE_ALLOWED_PRIVATE_HOSTS: `${hostPort(host.url)},${hostPort(receiver.url)}`,
      ...env,
    },
  })
  return {
    gate,
    host,
    model,
    receiver,
    async [Symbol.asyncDispose]() {
      await gate[Symbol.asyncDispose]()
      await Promise.all([host.close(), model.close(), receiver.close()])
    },
  }
}

/** A repository on the host that the gate may read and publish to. */
export async function hostRepository(
  { gate, host }: Neighbourhood,
  name: string,
  files: Readonly<Record<string, string>>,
): Promise<RepositoryAccess> {
  const access = await host.createRepository({ owner: 'acme', name, files, private: true })
  await gate.client.gitCredentials.create({
    host: new URL(access.url).host,
    kind: 'token',
    use: 'publish',
    secret: access.token,
    apiBaseUrl: access.apiBaseUrl,
  })
  return access
}

/** A small project with a bug, its test, and a script that repairs it in two goes. */
export const BROKEN_PROJECT = {
  'package.json': JSON.stringify({ name: 'sums', type: 'module', scripts: { test: 'node --test' } }),
  'README.md': '# sums\n',
  'sum.js': 'export const sum = (a, b) => a - b\n',
  'sum.test.js':
    "import assert from 'node:assert'\nimport { test } from 'node:test'\nimport { sum } from './sum.js'\ntest('adds', () => assert.equal(sum(2, 3), 5))\n",
} as const

export const PROJECT_REPAIR = {
  file: 'sum.js',
  bug: 'a - b',
  wrong: 'a * b',
  right: 'a + b',
  test: 'npm test',
} as const
