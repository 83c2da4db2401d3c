/** A git host and a model on loopback, and a small npm project there whose own test is the gate. */
import { startGitHost } from '../demo/git-host.ts'
import { type ModelScript, startModelServer } from '../demo/model-server.ts'
import { AgentGate } from '../sdk/typescript/src/index.ts'
import type { OwnGateway, Settings } from './gateway.ts'

const PROJECT = {
  'package.json': JSON.stringify({ name: 'sums', type: 'module', scripts: { test: 'node --test' } }),
  'README.md': '# sums\n',
  'sum.js': 'export const sum = (a, b) => a + b\n',
  'sum.test.js':
    "import assert from 'node:assert'\nimport { test } from 'node:test'\nimport { sum } from './sum.js'\ntest('adds', () => assert.equal(sum(2, 3), 5))\n",
}

const SCRIPT: ModelScript = [
  { text: 'I look.', calls: [{ tool: 'list_files', arguments: {} }] },
  { text: 'I write.', calls: [{ tool: 'write_file', arguments: { path: 'NOTE.md', content: 'A note.\n' } }] },
  { text: 'Done.', calls: [{ tool: 'finish', arguments: { summary: 'Left a note.' } }] },
]

export interface OrderProject extends AsyncDisposable {
  /** What a work order names. */
  repository: string
  /** What a gateway needs to reach host and model. */
  settings: Settings
  /** Clients of both modes, whose organisation may publish to the host. */
  open(gateway: OwnGateway): Promise<{ live: AgentGate; test: AgentGate }>
}

export async function openProject(script = SCRIPT): Promise<OrderProject> {
  const host = await startGitHost()
  const model = await startModelServer({ script })
  const access = await host.createRepository({ owner: 'bench', name: 'sums', files: PROJECT })
  const { url: repository, token, apiBaseUrl } = access
  const hostPort = new URL(repository).host
  const credential = { host: hostPort, kind: 'token', use: 'publish', secret: token, apiBaseUrl } as const
  return {
    repository,
    settings: {
      AGENTGATE_ALLOWED_PRIVATE_HOSTS: hostPort,
      OPENAI_API_KEY: 'key-of-the-bench-0',
      AGENTGATE_OPENAI_BASE_URL: model.url,
      AGENTGATE_MODELS: 'openai/scripted',
    },
    async open({ url, jail, liveKey, testKey }) {
      if (jail === 'unavailable') throw new Error('No jail works here; ./agentgate doctor says why.')
      const live = new AgentGate({ apiKey: liveKey, baseUrl: url })
      const test = new AgentGate({ apiKey: testKey, baseUrl: url })
      for (const client of [live, test]) await client.gitCredentials.create(credential)
      return { live, test }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([host.close(), model.close()])
    },
  }
}
